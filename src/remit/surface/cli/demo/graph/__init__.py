"""A sample company for the access graph: files of four systems, and the way from a leaked key to what it opens."""
