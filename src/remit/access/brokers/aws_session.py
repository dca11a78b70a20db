"""A lease's role and session on their way: its documents, and the session sealed by the lease's own secret in its tags.

STS makes the session's keys and shows them once. They rest in tags of the role, so that whoever revokes the lease can
try the very session, though another process minted it; AWS never sees what they are sealed with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from remit.access.brokers.aws_settings import PROBE, VERSION, Mapped
from remit.access.brokers.principals import instance_of
from remit.access.model import MintOrder
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected
from remit.providers.aws.account import Document, Session
from remit.providers.aws.query import Keys

ALLOWS: Final = "remit-lease"
EXPIRY: Final = "remit-expiry"
ENDED: Final = "AWSRevokeOlderSessions"
"""The name that AWS itself gives to the policy by which it revokes sessions."""
PRINCIPAL: Final = "remit:principal"
_SEALED: Final = "remit:sealed"
_TAG_CHARACTERS: Final = 256
_MOST_TAGS: Final = 40
_NONCE: Final = 12
_UNTAGGABLE = re.compile(r"[^\w .:/=+@-]")


def trust(broker: str, order: MintOrder) -> Document:
    """Who may become the role: the broker alone, with what it knows of this lease, and under its name."""
    principal = {"AWS": broker}
    named = {"sts:SourceIdentity": order.principal}
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": principal,
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": external_id(order.secret), **named}},
            },
            {
                "Effect": "Allow",
                "Principal": principal,
                "Action": "sts:SetSourceIdentity",
                "Condition": {"StringEquals": named},
            },
            {"Effect": "Allow", "Principal": principal, "Action": "sts:TagSession"},
        ],
    }


def closed(broker: str) -> Document:
    """A trust policy by which nobody becomes the role any more."""
    verbs = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]
    return {"Version": VERSION, "Statement": [{"Effect": "Deny", "Principal": {"AWS": broker}, "Action": verbs}]}


def allows(mapped: Mapped, role: str) -> Document:
    """What a lease may do by itself, besides its managed policies: the mapping's statements, and the probe."""
    probe = {"Effect": "Allow", "Action": PROBE, "Resource": role}
    return {"Version": VERSION, "Statement": [*mapped.statements, probe]}


def ends_at(expires: datetime) -> Document:
    """The native expiry: after it AWS denies everything, though Remit is dead."""
    after = {"DateGreaterThan": {"aws:CurrentTime": rfc3339(expires)}}
    return {
        "Version": VERSION,
        "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": after}],
    }


def ended() -> Document:
    """All sessions of the role end: it has no others than the lease's, so that no condition spares any."""
    return {"Version": VERSION, "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}


def asking(order: MintOrder, mapped: Mapped, role: str, seconds: int) -> dict[str, str]:
    """The parameters of AssumeRole: the session's own policy is the mapping again, whatever the role comes to hold."""
    values = {"RoleSessionName": order.principal, "SourceIdentity": order.principal}
    values |= {"ExternalId": external_id(order.secret), "DurationSeconds": str(seconds)}
    values |= {"Policy": json.dumps(allows(mapped, role), separators=(",", ":"))}
    for index, arn in enumerate(mapped.policies, 1):
        values[f"PolicyArns.member.{index}.arn"] = arn
    return values


def role_tags(order: MintOrder) -> dict[str, str]:
    return {PRINCIPAL: order.principal, "remit:instance": instance_of([order.principal]), **session_tags(order)}


def session_tags(order: MintOrder) -> dict[str, str]:
    """`remit:identity`, `remit:task`, `remit:lease`, by what the order's label says."""
    said = dict(word.split("=", 1) for word in order.label.split() if "=" in word)
    return {
        f"remit:{key}": _UNTAGGABLE.sub("_", said[key])[:_TAG_CHARACTERS]
        for key in ("identity", "task", "lease")
        if said.get(key)
    }


def external_id(secret: str) -> str:
    """What the trust policy asks for: it can be made from the lease's secret, and not the other way round."""
    return hmac.digest(secret.encode(), b"remit aws external id", "sha256").hex()[:40]


def seal(session: Session, secret: str, principal: str, nonce: bytes) -> str:
    """Base64 of nonce and AES-256-GCM over the session; `nonce` is 12 random bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    text = json.dumps([session.keys.id, session.keys.secret, session.keys.token, session.expires])
    sealed = AESGCM(_key(secret)).encrypt(nonce, text.encode(), principal.encode())
    return base64.b64encode(nonce + sealed).decode()


def unseal(sealed: str, secret: str, principal: str) -> Session | None:
    """The session; `None` for anything that this secret did not seal for this principal."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        held = base64.b64decode(sealed.encode(), validate=True)
        text = AESGCM(_key(secret)).decrypt(held[:_NONCE], held[_NONCE:], principal.encode())
        key_id, key, token, expires = json.loads(text)
    except (ValueError, InvalidTag):
        return None
    return Session(keys=Keys(id=key_id, secret=key, token=token), expires=expires)


def sealed_tags(sealed: str) -> dict[str, str]:
    """The sealed session as tags. `Rejected` (`access.aws.token`) for one that is too long for them."""
    parts = [sealed[start : start + _TAG_CHARACTERS] for start in range(0, len(sealed), _TAG_CHARACTERS)]
    if len(parts) > _MOST_TAGS:
        raise Rejected("access.aws.token", "the session's token is longer than the tags of a role can hold")
    return {f"{_SEALED}:{index:02}": part for index, part in enumerate(parts)}


def sealed_in(tags: Mapping[str, str]) -> str:
    """The sealed session in a role's tags; empty where there is none."""
    return "".join(tags[key] for key in sorted(tags) if key.startswith(f"{_SEALED}:"))


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"remit aws session\0" + secret.encode()).digest()


def credential_files(profile: str, session: Session, settings: Mapping[str, str]) -> dict[str, str]:
    """Credentials and configuration of one profile, as every SDK and the command line read them."""
    keys = session.keys
    secrets: dict[str, Any] = {"aws_access_key_id": keys.id, "aws_secret_access_key": keys.secret}
    secrets |= {"aws_session_token": keys.token}
    config = {"region": settings.get("region", ""), "endpoint_url": settings.get("endpoint", "")}
    config |= {"ca_bundle": settings.get("ca", "")}
    return {
        "aws-credentials": _section(profile, secrets),
        "aws-config": _section(f"profile {profile}", config),
    }


def _section(head: str, values: Mapping[str, str]) -> str:
    return f"[{head}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items() if value)
