"""What the services have in common: rules, data, use cases. Imports no service."""
