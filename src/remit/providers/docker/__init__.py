"""The Docker engine's API over its Unix socket, and image archives, for reading."""
