"""CloudTrail → uses of principals and access keys.

Spec: AWS CloudTrail User Guide, "CloudTrail record contents", "CloudTrail userIdentity element".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from remit.inventory.use.model import Use
from remit.inventory.use.readers import Context, Told
from remit.inventory.use.readers.aws_actions import acts_of
from remit.inventory.use.readers.words import address_of, loaded, mapping, moment_of, person_of, program_of, text
from remit.kernel.ids import Name, credential_name, name, parse_name

_SESSION = re.compile(r"arn:aws[a-z-]*:sts::(\d{12}):assumed-role/([^/]+)/.+")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):(user|role)/(.+)")
_LONG_LIVED = re.compile(r"AKIA[A-Z2-7]{16}")
_REFUSALS = ("AccessDenied", "UnauthorizedOperation", "Client.UnauthorizedOperation", "AuthFailure")


def read(record: bytes, context: Context) -> Iterator[Told]:
    """A file of `Records`, or one event."""
    body = loaded(record)
    entries = body.get("Records")
    for entry in entries if isinstance(entries, list) else [body]:
        if (told := _event(mapping(entry), context)) is not None:
            yield told


def _event(event: Mapping[str, Any], context: Context) -> Told | None:
    moment = moment_of(text(event.get("eventTime")))
    who = mapping(event.get("userIdentity"))
    if moment is None or not event.get("eventName"):
        return None
    agent = text(event.get("userAgent"))
    console = text(event.get("eventType")) == "AwsConsoleSignIn" or mapping(event).get("sessionCredentialFromConsole")
    program = program_of(agent)
    account = text(event.get("recipientAccountId")) or context.instance
    names = [*_names(who, account)]
    acts = tuple(acts_of(event, account))
    uses = (
        Use(
            name=each,
            moment=moment,
            address=address_of(text(event.get("sourceIPAddress"))),
            program=program,
            environment=context.environment,
            admitted=not text(event.get("errorCode")).startswith(_REFUSALS),
            person="AWS console" if console else person_of(program),
            acts=() if _is_credential(each) else acts,
        )
        for each in names
    )
    return Told(moment=moment, uses=tuple(uses))


def _names(who: Mapping[str, Any], account: str) -> Iterator[Name]:
    if who.get("type") == "Root":
        yield name("aws", text(who.get("accountId")) or account, "root", "root")
    arn = text(who.get("arn"))
    if session := _SESSION.fullmatch(arn):
        issuer = mapping(mapping(who.get("sessionContext")).get("sessionIssuer"))
        # A session's ARN leaves out the path of its role; the issuer's has it.
        full = _PRINCIPAL.fullmatch(text(issuer.get("arn")))
        yield name("aws", session[1], "role", full[3] if full else session[2])
    elif principal := _PRINCIPAL.fullmatch(arn):
        yield name("aws", principal[1], principal[2], principal[3])
    if _LONG_LIVED.fullmatch(key := text(who.get("accessKeyId"))):
        yield credential_name("sha256:" + hashlib.sha256(key.encode()).hexdigest())


def _is_credential(each: Name) -> bool:
    parts = parse_name(each)
    return parts is not None and parts[0] == "credential"
