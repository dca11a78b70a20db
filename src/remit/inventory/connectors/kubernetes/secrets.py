"""Secrets → credentials by fingerprint. A value is decoded, fingerprinted and forgotten."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from remit.inventory.connectors.kubernetes.labels import described
from remit.inventory.connectors.kubernetes.names import Names
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, mapping, strings, text
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    FindingFact,
    Relation,
    ResourceFact,
    Sensitivity,
    Severity,
    Skipped,
)
from remit.kernel.ids import Name, credential_name
from remit.kernel.unit import Fingerprinter

SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
_REGISTRIES = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_PLAIN_KEYS = re.compile(
    r"(?i)(?:.*[._-])?(?:user(?:name)?|login|host(?:name)?|port|database|db_?name|namespace|endpoint|region|ca\.crt|ca\.pem|email"
    r"|issuer|bucket|scheme|driver|protocol)"
)
_ACCESS_KEY_ID = re.compile(rb"(?:AKIA|ASIA)[A-Z2-7]{16}")
_SECRET_ACCESS_KEY = re.compile(r"(?i).*secret[._-]?(?:access[._-]?)?key")
_MAX_VALUE = 1024 * 1024
_MAX_KEYS = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a secret: its key, and the credential that it is (`None` for what proves nothing)."""

    key: str
    credential: CredentialFact | None


def entries_of(secret: Object, names: Names, fingerprint: Fingerprinter) -> Iterator[Entry | Skipped]:
    """Every value of a secret, by fingerprint."""
    data = {**mapping(secret.body.get("data")), **mapping(secret.body.get("stringData"))}
    plain = mapping(secret.body.get("stringData"))
    for position, (key, value) in enumerate(data.items()):
        what = f"Secret {secret.local} key {key} ({secret.place.path})"
        if position >= _MAX_KEYS:
            yield Skipped(what=f"Secret {secret.local}", reason="too-large", detail=f"more than {_MAX_KEYS} keys")
            return
        if not isinstance(value, str) or len(value) > _MAX_VALUE * 4 // 3:
            yield Skipped(what=what, reason="malformed", detail="no text, or too long")
            continue
        raw = value.encode() if key in plain else _decode(value)
        if raw is None:
            yield Skipped(what=what, reason="malformed", detail="not base64")
        elif raw:
            yield from _entries(secret, str(key), raw, names, fingerprint, data)


def _decode(value: str) -> bytes | None:
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _entries(
    secret: Object, key: str, raw: bytes, names: Names, fingerprint: Fingerprinter, data: Any
) -> Iterator[Entry]:
    kind = text(secret.body.get("type"))
    if kind in _REGISTRIES and key == _REGISTRIES[kind]:
        yield from _registries(secret, key, raw, fingerprint)
    elif kind == SERVICE_ACCOUNT_TOKEN:
        if key == "token":
            yield Entry(key, _token(secret, key, raw, names, fingerprint))
    elif b"-----BEGIN" in raw[:200]:
        yield Entry(key, None if key == "tls.crt" and "tls.key" in data else _pem(secret, key, raw, fingerprint))
    elif key_id := _access_key_id(key, raw, secret):
        digest = hashlib.sha256(key_id).hexdigest()
        yield Entry(key, _fact(secret, key, f"sha256:{digest}", CredentialKind.ACCESS_KEY))
    elif _PLAIN_KEYS.fullmatch(key):
        yield Entry(key, None)
    else:
        yield Entry(key, _value(secret, key, raw, fingerprint))


def _access_key_id(key: str, raw: bytes, secret: Object) -> bytes | None:
    """The id of an AWS access key, for the id itself and for the secret key beside it: they are one credential."""
    if _ACCESS_KEY_ID.fullmatch(raw.strip()):
        return raw.strip()
    if not _SECRET_ACCESS_KEY.fullmatch(key):
        return None
    values = [_decode(value) for value in strings(secret.body.get("data")).values()]
    values += [value.encode("utf-8", "replace") for value in strings(secret.body.get("stringData")).values()]
    return next((value.strip() for value in values if value and _ACCESS_KEY_ID.fullmatch(value.strip())), None)


def _value(secret: Object, key: str, raw: bytes, fingerprint: Fingerprinter) -> CredentialFact | None:
    """A password, token or key by itself; in a URL, the password that the URL carries."""
    password = url_password(raw)
    if password is not None:
        return _fact(secret, key, fingerprint(password), CredentialKind.PASSWORD) if password else None
    lowered = key.lower()
    kind = CredentialKind.SECRET
    if "password" in lowered or "passwd" in lowered or text(secret.body.get("type")) == "kubernetes.io/basic-auth":
        kind = CredentialKind.PASSWORD
    elif "token" in lowered:
        kind = CredentialKind.TOKEN
    elif "api" in lowered and "key" in lowered:
        kind = CredentialKind.API_KEY
    return _fact(secret, key, fingerprint(raw.strip(b"\r\n")), kind)


def url_password(raw: bytes) -> bytes | None:
    """The password of a URL: empty where it has none, `None` where `raw` is no URL."""
    if b"://" not in raw[:40] or len(raw) > 4096:
        return None
    try:
        parts = urlsplit(raw.decode().strip())
    except (UnicodeDecodeError, ValueError):
        return None
    return unquote_to_bytes(parts.password) if parts.password else b""


def _registries(secret: Object, key: str, raw: bytes, fingerprint: Fingerprinter) -> Iterator[Entry]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return
    entries = mapping(body).get("auths") if key == ".dockerconfigjson" else body
    for registry, entry in list(mapping(entries).items())[:_MAX_KEYS]:
        password = text(mapping(entry).get("password")).encode("utf-8", "replace")
        if not password:
            password = (_decode(text(mapping(entry).get("auth"))) or b"").partition(b":")[2]
        if password:
            fact = _fact(secret, f"{key} {registry}", fingerprint(password), CredentialKind.PASSWORD)
            yield Entry(key, fact)


def _token(secret: Object, key: str, raw: bytes, names: Names, fingerprint: Fingerprinter) -> CredentialFact:
    claims = _claims(raw)
    account = secret.annotations.get("kubernetes.io/service-account.name", "")
    subject = text(claims.get("sub")).split(":")
    identity: Name | None = names.account(secret.namespace, account) if account else None
    if identity is None and len(subject) == 4 and subject[:2] == ["system", "serviceaccount"]:
        identity = names.account(subject[2], subject[3])
    return _fact(
        secret,
        key,
        fingerprint(raw.strip()),
        CredentialKind.TOKEN,
        identity=identity,
        issued=_moment(claims.get("iat")),
        expires=_moment(claims.get("exp")),
    )


def _claims(raw: bytes) -> Any:
    """The unverified claims of a JWT; used to describe the token, never to trust it."""
    parts = raw.strip().split(b".")
    if len(parts) != 3 or len(parts[1]) > 16_384:
        return {}
    try:
        return mapping(msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4))))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {}


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC) if isinstance(value, int) else None
    except (OverflowError, ValueError, OSError):
        return None


def _pem(secret: Object, key: str, raw: bytes, fingerprint: Fingerprinter) -> CredentialFact | None:
    """A private key by the hash of its public half; a certificate alone proves nothing without its key."""
    if b"PRIVATE KEY-----" not in raw:
        return None
    digest = _public_digest(raw)
    expires = _expiry(secret) if key == "tls.key" else None
    kind = (
        CredentialKind.SSH_KEY
        if text(secret.body.get("type")) == "kubernetes.io/ssh-auth"
        else CredentialKind.PRIVATE_KEY
    )
    return _fact(secret, key, digest or fingerprint(raw.strip()), kind, expires=expires)


def _public_digest(raw: bytes) -> str | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as forms

    load = forms.load_ssh_private_key if b"OPENSSH" in raw[:60] else forms.load_pem_private_key
    try:
        public = load(raw, password=None).public_key()
        spki = public.public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def _expiry(secret: Object) -> datetime | None:
    from cryptography import x509

    raw = _decode(text(mapping(secret.body.get("data")).get("tls.crt")))
    raw = raw or text(mapping(secret.body.get("stringData")).get("tls.crt")).encode("utf-8", "replace")
    try:
        return x509.load_pem_x509_certificate(raw).not_valid_after_utc
    except ValueError:
        return None


def _fact(
    secret: Object,
    key: str,
    fingerprint: str,
    kind: CredentialKind,
    *,
    identity: Name | None = None,
    issued: datetime | None = None,
    expires: datetime | None = None,
) -> CredentialFact:
    return CredentialFact(
        fingerprint=fingerprint,
        kind=kind,
        title=f"{secret.local} {key}",
        place=secret.place,
        identity=identity,
        issued=issued,
        expires=expires,
        exposed=True,
        attributes={"secret": secret.local, "key": key, "type": text(secret.body.get("type")) or "Opaque"},
    )


def translate_secret(
    secret: Object, cluster: Cluster, names: Names, fingerprint: Fingerprinter, *, live: bool = False
) -> Iterator[Fact]:
    """The facts of one Secret: it as a resource, the credentials that it holds, and what is wrong with it.

    `live`: it is the API's, so what it holds lies in the cluster's store and in no file.
    """
    resource = names.secret(secret.namespace, secret.name)
    kind = text(secret.body.get("type")) or "Opaque"
    yield ResourceFact(
        name=resource,
        kind="kubernetes-secret",
        title=secret.local,
        place=secret.place,
        sensitivity=Sensitivity.CONFIDENTIAL,
        attributes={**described(secret, cluster), "type": kind},
    )
    held = 0
    for entry in entries_of(secret, names, fingerprint):
        if isinstance(entry, Skipped):
            yield entry
        elif entry.credential is not None:
            held += 1
            yield replace(entry.credential, exposed=False, manager="kubernetes") if live else entry.credential
            yield EdgeFact(
                source=resource,
                relation=Relation.HOLDS,
                target=credential_name(entry.credential.fingerprint),
                evidence=f"key {entry.key} of Secret {secret.local}",
                place=secret.place,
                cut=f"keep {entry.key} in a secret manager and issue it for one task",
            )
    yield from _findings(secret, resource, kind, 0 if live else held)


def _findings(secret: Object, resource: Name, kind: str, held: int) -> Iterator[FindingFact]:
    if kind == SERVICE_ACCOUNT_TOKEN:
        yield FindingFact(
            rule="kubernetes.static-token",
            severity=Severity.HIGH,
            title=f"a service account token without an expiry lies in Secret {secret.local}",
            detail="tokens of this type stay valid until the Secret or the service account is deleted",
            next_step="use projected tokens (`serviceAccountToken` volumes), then delete the Secret",
            place=secret.place,
            subject=resource,
        )
    if held:
        yield FindingFact(
            rule="kubernetes.secret-in-manifest",
            severity=Severity.HIGH,
            title=f"{held} credential{'s' if held > 1 else ''} in the manifest of Secret {secret.local}",
            detail="base64 is no protection: whoever reads the file has the credential",
            next_step="rotate what it holds, and reference a secret manager instead",
            place=secret.place,
            subject=resource,
        )
