"""Upstream authorities: who signs our CA certificates, where the root is not our own."""
