"""Gateways: enforcement points in front of programs and tools that cannot enforce by themselves."""
