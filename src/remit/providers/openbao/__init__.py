"""OpenBao (and Vault, which speaks the same API): a client that signs in by itself."""
