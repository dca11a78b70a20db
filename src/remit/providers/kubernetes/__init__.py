"""Kubernetes: what Remit asks of an API server."""
