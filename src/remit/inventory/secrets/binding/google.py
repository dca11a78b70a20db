"""Google Cloud: service-account keys say whose they are; OAuth clients carry their project's number.

Spec: Google Cloud IAM "Service account keys"; Cloud Storage "HMAC keys"; Firebase "API keys".
"""

from __future__ import annotations

import json
import re

from remit.inventory.model import CredentialKind, IdentityKind
from remit.inventory.secrets.binding import keys
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, Subject, subject
from remit.kernel.ids import name

_EMAIL = re.compile(r"[\w.-]{1,64}@([\w-]{1,64})\.iam\.gserviceaccount\.com")
_FIELD = r"\\?[\"']?\b{key}\b\\?[\"']?\s*[:=]\s*\\?[\"']([^\"'\\\s]{{1,300}})"
_CLIENT = re.compile(r"\b(\d{6,15})-\w{20,60}\.apps\.googleusercontent\.com\b")


def bind(seen: Seen) -> Binding | None:
    """A service-account key (its JSON, or the PEM in it), an OAuth client's secret, an HMAC or API key."""
    value = seen.value
    if "private_key" in value and "client_email" in value and value.startswith("{"):
        return _document(value)
    if "PRIVATE KEY-----" in value and _EMAIL.search(seen.around) and "private_key" in seen.around:
        return _service_account(value, lambda key: field_near(seen, key))
    if re.fullmatch(r"GOCSPX-[\w-]{28}", value):
        return _oauth_client(seen)
    if re.fullmatch(r"GOOG1E[A-Z0-9]{55}", value):
        return Binding(
            provider="google", method="form", what="HMAC key id of a Google service account",
            kind=CredentialKind.ACCESS_KEY, attributes={"class": "hmac", "holder": "service-account"},
        )  # fmt: skip
    if re.fullmatch(r"AIza[\w-]{35}", value):
        project = field_near(seen, "project_?[iI]d")
        return Binding(
            provider="google", method="neighbouring project" if project else "prefix", what="Google API key",
            kind=CredentialKind.API_KEY, reached=_project(project),
            attributes={"project": project} if project else {},
        )  # fmt: skip
    if re.fullmatch(r"1//0[\w-]{40,250}|ya29\.[\w-]{30,2000}", value):
        return _refresh(seen)
    return None


def field_near(seen: Seen, key: str) -> str:
    """The value of a field of this name near the hit: `"key": "value"`, `key = 'value'`, escaped JSON."""
    found = re.search(_FIELD.format(key=key), seen.around)
    return found.group(1) if found else ""


def _document(value: str) -> Binding | None:
    root = json.loads(value)
    if not isinstance(root, dict):
        return None
    private = str(root.get("private_key", ""))
    return _service_account(private, lambda key: str(root.get(key, "")))


def _service_account(pem: str, look: object) -> Binding:
    assert callable(look)
    email, project = str(look("client_email")), str(look("project_id"))
    key_id = str(look("private_key_id"))
    key = keys.bind_pem(pem.encode("utf-8", "replace"))
    return Binding(
        provider="google",
        method="client_email beside the key",
        what=f"key of {email or 'a Google service account'}",
        kind=CredentialKind.PRIVATE_KEY,
        public=key.public if key else "",
        secret=pem.encode("utf-8", "replace"),
        subject=google_account(email, project) if email else None,
        reached=_project(project),
        attributes={"key_id": key_id, "project": project, "client_id": str(look("client_id"))},
    )


def google_account(email: str, project: str = "") -> Subject:
    """A service account (or a person's login) by its mail address, as the connectors name it."""
    found = _EMAIL.fullmatch(email)
    project = project or (found.group(1) if found else "unknown")
    return subject(
        "gcp", project, "serviceaccount", email,
        of=IdentityKind.SERVICE_ACCOUNT if found else IdentityKind.CLOUD_USER, title=email,
        attributes={"project": project},
    )  # fmt: skip


def _project(project: str) -> tuple[Reached, ...]:
    if not project:
        return ()
    return (Reached(name=name("gcp", project, "project", project), kind="gcp-project", title=project),)


def _oauth_client(seen: Seen) -> Binding:
    given = _CLIENT.search(seen.part("client_id")) or _CLIENT.search(seen.around)
    who = None
    if given:
        who = subject("gcp", given.group(1), "oauth-client", given.group(), title=f"OAuth client {given.group()[:24]}…")
    return Binding(
        provider="google",
        method="client id beside the secret" if given else "prefix",
        what="Google OAuth client secret",
        kind=CredentialKind.SECRET,
        subject=who,
        attributes={"project_number": given.group(1), "client_id": given.group()} if given else {},
    )


def _refresh(seen: Seen) -> Binding:
    email = field_near(seen, "account")
    quota = field_near(seen, "quota_project_id")
    return Binding(
        provider="google",
        method="login beside the token" if email else "prefix",
        what="Google refresh token" if seen.value.startswith("1//") else "Google access token",
        kind=CredentialKind.TOKEN,
        subject=google_account(email, quota) if "@" in email else None,
        attributes={"project": quota} if quota else {},
    )
