"""One file a certificate service."""
