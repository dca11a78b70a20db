"""GitLab's REST API, for reading."""
