"""Credentials for one task: written down before they exist, renewed while the task lives, revoked and proved."""
