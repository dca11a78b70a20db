"""The starter policies: written to be read, shipped inactive, and held to their cases and invariants."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def starter_text() -> str:
    """All of them, in the order of their files."""
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(_HERE.glob("*.cedar")))


def starter_cases() -> str:
    """Their test cases, as YAML."""
    return (_HERE / "cases.yaml").read_text(encoding="utf-8")


def starter_invariants() -> str:
    """What they promise."""
    return (_HERE / "starter.invariants").read_text(encoding="utf-8")
