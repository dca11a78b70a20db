"""How places are shown."""

from __future__ import annotations


def short_place(place: str) -> str:
    """A place without the fingerprint of its host: on one machine it is the same everywhere."""
    system, _, rest = place.partition(":")
    return "/" + rest.partition("/")[2] if system == "host" and "/" in rest else place
