"""The starter policies: written to be read, shipped inactive."""

from __future__ import annotations

from pathlib import Path


def starter_text() -> str:
    """All of them, in the order of their files."""
    files = sorted(Path(__file__).parent.glob("*.cedar"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
