"""The installation's own keys."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.surface.api.route import Call, Route
from remit.wiring.keys import rotate_keys


class NewKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key-encryption key that takes over: `file:/PATH` or `pkcs11:…`; empty for a new one in the place of this."""

    to: str = ""


async def rotate(call: Call) -> Any:
    body: NewKeys = call.body
    by, control = call.require_person("rotating the installation's keys"), call.control
    return await rotate_keys(control.store, control.keys, control.settings, to=body.to, actor=f"person:{by.name}")


ROUTES = [
    Route(
        method="POST",
        path="/api/v1/keys/rotate",
        summary="Rotate the installation's keys",
        handler=rotate,
        body=NewKeys,
        tag="system",
    ),
]
