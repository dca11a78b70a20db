"""Attestors: each turns a live workload into evidence, in one file. The port is `trust.ports.Attestor`."""
