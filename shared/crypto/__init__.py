"""PEM, X.509, the vault for private keys, token and webhook signatures."""
