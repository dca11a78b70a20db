"""Static secrets that gateways inject: added, rotated, removed and listed, and never shown."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.access.secrets import StaticSecret
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route

_TAG = "access"
_PATH = "/api/v1/secrets"


class NewSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A secret to keep: `salt` is random, so that the digest of this request tells nothing of a short `value`."""

    name: str
    value: str
    resources: list[str]
    salt: str

    def __repr__(self) -> str:
        return f"NewSecret({self.name!r})"


class NewValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another value for a secret; `salt` as in `NewSecret`."""

    value: str
    salt: str

    def __repr__(self) -> str:
        return "NewValue()"


async def add(call: Call) -> Any:
    body: NewSecret = call.body
    by = call.require_person("to keep a secret")
    value = _value(body.value, body.salt)
    made = await call.control.secrets.add(
        body.name, value, body.resources, actor=f"person:{by.name}", approval=by.evidence()
    )
    return _shown(made)


async def rotate(call: Call) -> Any:
    body: NewValue = call.body
    by = call.require_person("to rotate a secret")
    value = _value(body.value, body.salt)
    made = await call.control.secrets.rotate(
        call.path["secret"], value, actor=f"person:{by.name}", approval=by.evidence()
    )
    return _shown(made)


async def list_secrets(call: Call) -> Any:
    return [_shown(one) for one in await call.control.secrets.list()]


async def remove(call: Call) -> Any:
    await call.control.secrets.remove(call.path["secret"], actor=call.caller.actor)
    return {"removed": call.path["secret"]}


def _value(text: str, salt: str) -> bytes:
    if not 16 <= len(salt) <= 128:
        raise Rejected("surface.secret.salt", "`salt` is 16 to 128 random characters")
    return text.encode()


def _shown(one: StaticSecret) -> dict[str, Any]:
    return {
        "name": one.name,
        "resources": list(one.resources),
        "version": one.version,
        "fingerprint": one.fingerprint,
        "created": one.created,
        "created_by": one.created_by,
        "changed": one.changed,
        "changed_by": one.changed_by,
    }


ROUTES = [
    Route(method="POST", path=_PATH, summary="Keep a secret for gateways", handler=add, body=NewSecret, tag=_TAG),
    Route(method="GET", path=_PATH, summary="Secrets, without their values", handler=list_secrets, tag=_TAG),
    Route(
        method="POST", path=f"{_PATH}/{{secret}}/rotate", summary="Give a secret another value", handler=rotate,
        body=NewValue, tag=_TAG,
    ),
    Route(method="DELETE", path=f"{_PATH}/{{secret}}", summary="Forget a secret", handler=remove, tag=_TAG),
]  # fmt: skip
