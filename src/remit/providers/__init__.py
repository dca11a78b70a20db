"""The outside world: thin typed clients and target drivers."""
