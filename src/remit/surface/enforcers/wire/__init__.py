"""Envoy's external authorization service on the wire, and no more of Envoy than it needs."""
