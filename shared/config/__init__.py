"""Settings from the environment and the operators' regions file."""
