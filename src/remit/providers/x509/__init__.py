"""Servers that admit clients by certificate: a client authority, its revocation list, and logins to try."""
