"""Observability: Grafana's and Sentry's tokens name their organisation, Datadog and others only themselves.

Spec: Grafana "Service account token format", "Cloud access policy tokens"; getsentry/rfcs 0091; Sentry "DSN".
"""

from __future__ import annotations

import base64
import json
import re
import zlib

from remit.inventory.model import CredentialKind, IdentityKind
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, known, moment, subject
from remit.kernel.ids import name

_SENTRY_DSN = re.compile(
    r"https?://([0-9a-f]{32})(?::([0-9a-f]{32}))?@((?:o(\d+)\.)?[\w.-]{1,200})(?::\d+)?/(?:[\w/-]*/)?(\d{1,20})"
)


def bind(seen: Seen) -> Binding | None:
    """A token of Grafana or Sentry, or a Sentry DSN."""
    value = seen.value
    if found := re.fullmatch(r"gls?a_([A-Za-z0-9]{32})_([a-f0-9]{8})", value):
        checksum = "pass" if f"{zlib.crc32(value[:-9].encode()):08x}" == found.group(2) else "fail"
        return _grafana("Grafana service-account token", {"class": "service-account", "checksum": checksum})
    if value.startswith("glc_"):
        return _cloud(value)
    if value.startswith("eyJrIjoi"):
        return _legacy(value)
    if re.match(r"sntrys_eyJ", value):
        return _sentry(value)
    if value.startswith("sntryu_"):
        return Binding(provider="sentry", method="prefix", what="Sentry user token", kind=CredentialKind.TOKEN)
    if found := _SENTRY_DSN.fullmatch(value):
        return _sentry_dsn(found)
    return None


def _decoded(text: str) -> dict[str, object]:
    text = text.replace("-", "+").replace("_", "/")
    value = json.loads(base64.b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004  (hostile bytes, not a wrong call)
    return value


def _grafana(what: str, about: dict[str, str]) -> Binding:
    return Binding(provider="grafana", method="form", what=what, kind=CredentialKind.API_KEY, attributes=known(about))


def _cloud(token: str) -> Binding:
    """`glc_` and the base64 of `{"o": organisation, "n": name, "k": key, "m": {"r": region}}`."""
    body = _decoded(token.removeprefix("glc_"))
    organisation, label = str(body.get("o", "")), str(body.get("n", ""))
    about = body.get("m")
    region = str(about.get("r", "")) if isinstance(about, dict) else ""
    who = None
    if organisation:
        who = subject("grafana", organisation, "access-policy-token", label or "unknown",
                      title=f"{label or 'token'} of Grafana organisation {organisation}")  # fmt: skip
    return Binding(
        provider="grafana", method="organisation and name in the token", what="Grafana Cloud token",
        kind=CredentialKind.API_KEY, subject=who,
        attributes=known({"class": "cloud", "organisation": organisation, "name": label, "region": region}),
    )  # fmt: skip


def _legacy(token: str) -> Binding | None:
    """The base64 of `{"k": key, "n": name, "id": organisation}`."""
    body = _decoded(token)
    if not isinstance(body.get("k"), str) or "n" not in body:
        return None
    label, organisation = str(body["n"]), str(body.get("id", ""))
    who = subject("grafana", f"org-{organisation}", "api-key", label, title=f"Grafana API key {label}")
    return Binding(
        provider="grafana", method="name and organisation in the key", what="Grafana API key (legacy)",
        kind=CredentialKind.API_KEY, subject=who,
        attributes=known({"class": "legacy", "organisation": organisation, "name": label}),
    )  # fmt: skip


def _sentry(token: str) -> Binding:
    """`sntrys_`, the base64 of the claims, `_` and the secret."""
    claims = _decoded(token.removeprefix("sntrys_").rpartition("_")[0] or token.removeprefix("sntrys_"))
    organisation, url = str(claims.get("org", "")), str(claims.get("region_url") or claims.get("url") or "")
    host = re.sub(r"^https?://", "", url).partition("/")[0] or "sentry.io"
    who = None
    if organisation:
        who = subject("sentry", host, "organisation-token", organisation, of=IdentityKind.SERVICE_ACCOUNT,
                      title=f"token of {organisation} at {host}")  # fmt: skip
    return Binding(
        provider="sentry", method="organisation in the token", what="Sentry organisation token",
        kind=CredentialKind.TOKEN, subject=who, issued=moment(claims.get("iat")),
        attributes=known({"class": "organisation", "organisation": organisation, "host": host}),
    )  # fmt: skip


def _sentry_dsn(found: re.Match[str]) -> Binding:
    key, secret, host, organisation, project = found.groups()
    at = Reached(
        name=name("sentry", host, "project", project), kind="sentry-project", title=f"project {project} at {host}"
    )
    return Binding(
        provider="sentry", method="organisation and project in the DSN", what="Sentry DSN",
        kind=CredentialKind.SECRET,
        subject=subject("sentry", host, "client-key", key, title=f"client key of project {project} at {host}"),
        secret=secret.encode() if secret else None, clear=(key, host, project),
        reached=(at,),
        harmless="" if secret else "public by design: it may only send events",
        attributes=known({"organisation": organisation or "", "project": project, "host": host}),
    )  # fmt: skip
