"""Where package managers keep what others published: copies, by the path that a home or a mount has them under."""

from __future__ import annotations

from typing import Final

PACKAGE_CACHES: Final = (
    "/.cargo/registry", "/.cargo/git", "/go/pkg/mod", "/.m2/repository", "/.gradle/caches", "/.cache/pip", "/.cache/uv",
    "/.cache/go-build", "/.pyenv/versions", "/.nuget/packages", "/.npm/_cacache", "/.cache/ms-playwright",
)  # fmt: skip
"""Ends of absolute paths: a key in there is a test key of somebody else's."""
