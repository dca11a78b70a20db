"""Task definitions: what may run under a name, bound to its very bytes and signed."""
