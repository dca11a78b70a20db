"""The audit log of a Kubernetes API server → uses of service accounts and users.

Spec: Kubernetes, "Auditing"; audit.k8s.io/v1 Event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from remit.inventory.use.model import UNCLEAR, Act, Use
from remit.inventory.use.readers import Context, Told
from remit.inventory.use.readers.words import (
    address_of,
    environment_in,
    loaded,
    mapping,
    moment_of,
    person_of,
    program_of,
    text,
)
from remit.kernel.ids import Name, name


def read(record: bytes, context: Context) -> Iterator[Told]:
    event = loaded(record)
    moment = moment_of(text(event.get("requestReceivedTimestamp")))
    if moment is None:
        return
    who = text(mapping(event.get("user")).get("username"))
    if event.get("stage") != "ResponseComplete" or not who:
        yield Told(moment=moment)
        return
    addresses = event.get("sourceIPs")
    program = program_of(text(event.get("userAgent")))
    space = text(mapping(event.get("objectRef")).get("namespace"))
    code = mapping(event.get("responseStatus")).get("code")
    use = Use(
        name=_name(who, context.instance),
        moment=moment,
        address=address_of(str(addresses[0])) if isinstance(addresses, list) and addresses else "",
        program=program,
        environment=context.environment or environment_in(space),
        admitted=code not in (401, 403),
        person=person_of(program),
        acts=_acts(event),
    )
    yield Told(moment=moment, uses=(use,))


def _acts(event: Mapping[str, Any]) -> tuple[Act, ...]:
    """`get apps/deployments/scale` on `shop/web`; the core group is `core`; what has no namespace begins with `/`."""
    verb, reference = text(event.get("verb")), mapping(event.get("objectRef"))
    kind = text(reference.get("resource"))
    if not kind:
        path = text(event.get("requestURI")).partition("?")[0]
        return (Act(action=f"{verb} url", resource=path),) if path else (Act(action=UNCLEAR),)
    group = text(reference.get("apiGroup")) or "core"
    sub = text(reference.get("subresource"))
    what = f"{verb} {group}/{kind}" + (f"/{sub}" if sub else "")
    return (Act(action=what, resource=f"{text(reference.get('namespace'))}/{text(reference.get('name'))}"),)


def _name(who: str, instance: str) -> Name:
    parts = who.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]:
        return name("kubernetes", instance, "serviceaccount", f"{parts[2]}/{parts[3]}")
    return name("kubernetes", instance, "user", who)
