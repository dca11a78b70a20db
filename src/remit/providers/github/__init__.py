"""GitHub's REST API, for reading."""
