"""Payments, models and messaging: the class, mode and key id that stand in the clear part of a key.

Spec: Stripe "API keys"; OpenAI "Projects"; Anthropic "API keys", "Admin API"; SendGrid, Postman, Twilio "API keys".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.binding.model import Binding, Seen, known, subject

_STRIPE = re.compile(r"(sk|rk)_(live|test|org)_(?:(live|test)_)?([A-Za-z0-9]{16,250})|whsec_[A-Za-z0-9+/=]{24,100}")
_STRIPE_CLASS = {"sk": "secret", "rk": "restricted"}
_ANTHROPIC = re.compile(r"sk-ant-(api|admin|oat|ort|sid)(\d\d)-[\w-]{20,300}")
_ANTHROPIC_CLASS = {
    "api": "API key",
    "admin": "admin key",
    "oat": "OAuth token",
    "ort": "OAuth refresh token",
    "sid": "session",
}
_OPENAI = re.compile(r"sk-(proj|svcacct|admin|service)-[\w-]{20,300}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}")
_OPENAI_CLASS = {"proj": "project", "svcacct": "service account", "service": "service account", "admin": "admin"}
_TWILIO_ACCOUNT = re.compile(r"\bAC[0-9a-f]{32}\b")


def bind(seen: Seen) -> Binding | None:
    """A key of one of these services."""
    for binder in _BINDERS:
        if (answer := binder(seen, seen.value)) is not None:
            return answer
    return None


def _stripe(seen: Seen, value: str) -> Binding | None:
    found = _STRIPE.fullmatch(value)
    if not found:
        return None
    if value.startswith("whsec_"):
        return Binding(provider="stripe", method="prefix", what="webhook signing secret", kind=CredentialKind.SECRET)
    form, first, second, body = found.groups()
    mode = second or (first if first != "org" else "")
    # Keys of accounts made since 2019 carry a part of the account's id behind `51`: a convention, not a promise.
    account = body[2:16] if body.startswith("51") and len(body) > 60 else ""
    who = None
    if account:
        who = subject("stripe", "stripe.com", "account", f"acct_1{account}", title=f"Stripe account acct_1{account}")
    return Binding(
        provider="stripe",
        method="account fragment in the key" if account else "prefix",
        what=f"Stripe {mode} {_STRIPE_CLASS[form]} key".replace("  ", " "),
        kind=CredentialKind.API_KEY,
        subject=who,
        clear=(account,),
        harmless="test mode" if mode == "test" else "",
        attributes=known(
            {"class": _STRIPE_CLASS[form], "mode": mode, "account": f"acct_1{account}" if account else ""}
        ),
    )


def _anthropic(seen: Seen, value: str) -> Binding | None:
    found = _ANTHROPIC.fullmatch(value)
    if not found:
        return None
    kind = _ANTHROPIC_CLASS[found.group(1)]
    return Binding(
        provider="anthropic", method="prefix", what=f"Anthropic {kind}",
        kind=CredentialKind.API_KEY if "key" in kind else CredentialKind.TOKEN,
        attributes={"class": found.group(1) + found.group(2)},
    )  # fmt: skip


def _openai(seen: Seen, value: str) -> Binding | None:
    found = _OPENAI.fullmatch(value)
    if not found:
        return None
    kind = _OPENAI_CLASS.get(found.group(1) or "", "user")
    organisation = re.search(r"\borg-[A-Za-z0-9]{20,30}\b", seen.around)
    project = re.search(r"\bproj_[A-Za-z0-9]{20,30}\b", seen.around)
    who = None
    if project or organisation:
        local = (project or organisation).group()  # type: ignore[union-attr]
        who = subject("openai", "openai.com", "project" if project else "organisation", local, title=f"OpenAI {local}")
    return Binding(
        provider="openai",
        method="organisation beside the key" if who else "prefix",
        what=f"OpenAI {kind} key",
        kind=CredentialKind.API_KEY,
        subject=who,
        attributes=known(
            {
                "class": kind,
                "organisation": organisation.group() if organisation else "",
                "project": project.group() if project else "",
            }
        ),
    )


def _sendgrid(seen: Seen, value: str) -> Binding | None:
    found = re.fullmatch(r"SG\.([\w-]{16,32})\.[\w-]{30,64}", value)
    return _keyed("sendgrid", "sendgrid.com", "SendGrid key", found.group(1)) if found else None


def _postman(seen: Seen, value: str) -> Binding | None:
    found = re.fullmatch(r"PMAK-([0-9a-f]{24})-[0-9a-f]{34}", value)
    return _keyed("postman", "postman.com", "Postman key", found.group(1)) if found else None


def _mailgun(seen: Seen, value: str) -> Binding | None:
    found = re.fullmatch(r"(?:key-)?[0-9a-f]{32}-([0-9a-f]{8}-[0-9a-f]{8})", value)
    return _keyed("mailgun", "mailgun.com", "Mailgun key", found.group(1)) if found else None


def _twilio(seen: Seen, value: str) -> Binding | None:
    if "twilio" not in f"{seen.hit.rule} {seen.hit.variable}".lower():
        return None
    account = _TWILIO_ACCOUNT.search(seen.around)
    key = re.search(r"\bSK[0-9a-f]{32}\b", seen.around)
    if not (account or key):
        return None
    local = account.group() if account else key.group()  # type: ignore[union-attr]
    about = {"account": account.group() if account else "", "key_id": key.group() if key else ""}
    return Binding(
        provider="twilio",
        method="account id beside the token",
        what="Twilio token",
        kind=CredentialKind.TOKEN,
        subject=subject("twilio", "twilio.com", "account" if account else "key", local, title=f"Twilio {local[:12]}…"),
        attributes=known({key_: text for key_, text in about.items() if text != value}),
    )


def _keyed(system: str, instance: str, what: str, key_id: str) -> Binding:
    return Binding(
        provider=system,
        method="key id in the key",
        what=what,
        kind=CredentialKind.API_KEY,
        subject=subject(system, instance, "api-key", key_id, title=f"{what} {key_id}"),
        clear=(key_id,),
        attributes={"key_id": key_id},
    )


_BINDERS: tuple[Callable[[Seen, str], Binding | None], ...] = (
    _stripe, _anthropic, _openai, _sendgrid, _postman, _mailgun, _twilio,
)  # fmt: skip
