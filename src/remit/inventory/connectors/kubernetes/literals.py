"""Credentials written in plain text into the environment of a container."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from remit.inventory.connectors.kubernetes.objects import Object, mappings, text
from remit.inventory.connectors.kubernetes.secrets import url_password
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    FindingFact,
    Relation,
    Severity,
)
from remit.kernel.ids import Name, credential_name
from remit.kernel.unit import Fingerprinter

_NAME = re.compile(r"(?i)(?:.*_)?(?:PASSWORD|PASSWD|PWD|SECRET|TOKEN|API_?KEY|SECRET_(?:ACCESS_)?KEY|PRIVATE_KEY)")
_PATH_NAME = re.compile(r"(?i).*(?:_FILE|_PATH|_NAME|_URL|_ENDPOINT)")
_ACCESS_KEY_ID = re.compile(r"(?:AKIA|ASIA)[A-Z2-7]{16}")
_PLACEHOLDER = re.compile(
    r"(?i)(?:true|false|none|null|[0-9]{1,4}|x{3,}|\*{3,}|<.*>|\$[({].*[)}]|change[-_ ]?me|placeholder|redacted|todo)"
)


def literal_credentials(
    item: Object, identity: Name, containers: Iterable[Mapping[str, Any]], fingerprint: Fingerprinter
) -> Iterator[Fact]:
    """The credentials of `env` entries that have a literal value."""
    for container in containers:
        for entry in mappings(container.get("env")):
            key, value = text(entry.get("name")), text(entry.get("value"))
            found = _credential(key, value, fingerprint) if 0 < len(value) <= 65_536 else None
            if found is not None:
                yield from _facts(item, identity, f"env {key} of container {text(container.get('name'))}", *found)


def _credential(key: str, value: str, fingerprint: Fingerprinter) -> tuple[str, CredentialKind] | None:
    if _ACCESS_KEY_ID.fullmatch(value):
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}", CredentialKind.ACCESS_KEY
    raw = value.encode("utf-8", "replace")
    password = url_password(raw)
    if password is not None:
        return (fingerprint(password), CredentialKind.PASSWORD) if password else None
    if not _NAME.fullmatch(key) or _PATH_NAME.fullmatch(key) or _PLACEHOLDER.fullmatch(value) or value[0] == "/":
        return None
    lowered = key.lower()
    if "token" in lowered:
        return fingerprint(raw), CredentialKind.TOKEN
    if "key" in lowered and "secret" not in lowered:
        return fingerprint(raw), CredentialKind.API_KEY
    return fingerprint(raw), CredentialKind.SECRET if "secret" in lowered else CredentialKind.PASSWORD


def _facts(item: Object, identity: Name, how: str, fingerprint: str, kind: CredentialKind) -> Iterator[Fact]:
    yield CredentialFact(
        fingerprint=fingerprint,
        kind=kind,
        title=f"{how} of {item.kind.lower()} {item.local}",
        place=item.place,
        exposed=True,
        attributes={"workload": item.local},
    )
    yield EdgeFact(
        source=identity,
        relation=Relation.HOLDS,
        target=credential_name(fingerprint),
        evidence=f"{how} of {item.kind} {item.local}, in plain text",
        place=item.place,
        cut="rotate it, and hand it over by secretKeyRef or issue it for one task",
    )
    yield FindingFact(
        rule="kubernetes.plaintext-env",
        severity=Severity.HIGH,
        title=f"a credential in plain text in {item.kind.lower()} {item.local}",
        detail=f"{how} has a literal value that looks like a {kind.value}",
        next_step="rotate the credential, then reference a Secret or a secret manager",
        place=item.place,
        subject=identity,
    )
