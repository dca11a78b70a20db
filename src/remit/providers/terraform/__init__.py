"""Terraform's own language, read by a library of others in a process of its own."""
