"""Commands on federation: partners, their bounds, how fresh what we hold of them is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

_PATH = "/api/v1/federation"
_COLUMNS = [
    ("trust_domain", "partner"),
    ("state", "bundle"),
    ("sequence", "sequence"),
    ("succeeded", "fetched"),
    ("until", "ends"),
    ("profile", "profile"),
    ("error", "last error"),
]


def add(
    domain: str,
    /,
    *,
    url: Annotated[str, Parameter(help="https://HOST/PATH of the partner's bundle endpoint.")],
    profile: Annotated[Literal["https_web", "https_spiffe"], Parameter(help="How the endpoint proves itself.")],
    until: Annotated[str, Parameter(help="Last day (2027-03-31, UTC) or moment (RFC 3339); at most 366 days.")],
    allow_id: Annotated[
        list[str], Parameter(help="Id of the partner that may act here: /path, or '/path/*'.", negative=())
    ],
    allow_resource: Annotated[
        list[str], Parameter(help="Resource that it may reach: target/NAME, or a prefix with '*'.", negative=())
    ],
    endpoint_spiffe_id: Annotated[str, Parameter(help="Whom an endpoint of https_spiffe must be.")] = "",
    bundle: Annotated[
        Path | None, Parameter(help="The partner's bundle (JSON), had from it by another way; needed by https_spiffe.")
    ] = None,
    reason: Annotated[str, Parameter(help="Why; people read it.")] = "",
    replace: Annotated[bool, Parameter(help="Put these terms in place of those in force.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Trust another trust domain for its own ids, within bounds, until a day. Signed by you.

    The bounds hold before every policy; what they let through still needs a policy that permits it.
    """
    where = where or Listing()
    body = {
        "trust_domain": domain,
        "url": url,
        "profile": profile,
        "endpoint_spiffe_id": endpoint_spiffe_id,
        "bundle": bundle.read_text(encoding="utf-8", errors="replace") if bundle is not None else "",
        "until": _moment(until),
        "allow_ids": allow_id,
        "allow_resources": allow_resource,
        "reason": reason,
        "replace": replace,
    }
    partner = where.admin.post(_PATH, body, signed=True)
    _print_one(partner, where)


def ls(*, where: Listing | None = None) -> None:
    """List partners, and how fresh what we hold of them is."""
    where = where or Listing()
    rows = where.admin.get(_PATH)
    if where.format != "table":
        emit(rows, where.format)
    else:
        show_table(rows, _COLUMNS, empty="no partners: `remit federation add DOMAIN --url https://…`")


def show(domain: str, /, *, where: Listing | None = None) -> None:
    """One relation: its terms, its bounds as the decision point has them (Cedar), its keys."""
    where = where or Listing()
    partner = where.admin.get(f"{_PATH}/{domain}")
    if where.format != "table":
        emit(partner, where.format)
        return
    _print_one(partner, where)
    say(plain(f"\nids        {', '.join(partner['allow_ids'])}"))
    say(plain(f"resources  {', '.join(partner['allow_resources'])}"))
    say(plain(f"endpoint   {partner['url']} {partner['endpoint_spiffe_id']}"))
    say(plain(f"by         {partner['by']}: {partner['reason'] or 'no reason given'}\n"))
    print(partner["policy"], end="", flush=True)


def admit(
    domain: str,
    spiffe_id: Annotated[list[str], Parameter(help="SPIFFE IDs within the bounds.", negative=())],
    /,
    *,
    where: Listing | None = None,
) -> None:
    """Let ids of a partner be identities here, owned by you: one that nobody admitted is refused as unknown."""
    where = where or Listing()
    answer = where.admin.post(f"{_PATH}/{domain}/identities", {"ids": spiffe_id}, signed=True)
    if where.format != "table":
        emit(answer, where.format)
    else:
        for name, identity in answer["admitted"].items():
            say(plain(f"{name} is {identity}"))


def refresh(domain: str, /, *, where: Listing | None = None) -> None:
    """Fetch a partner's bundle now, and say how that went."""
    where = where or Listing()
    partner = where.admin.post(f"{_PATH}/{domain}/refresh", {})
    _print_one(partner, where)
    if partner["error"]:
        raise SystemExit(1)


def rm(domain: str, /, *, where: Where | None = None) -> None:
    """End a relation: every workload loses the partner's bundle at once. Signed by you."""
    (where or Where()).admin.delete(f"{_PATH}/{domain}", signed=True)
    say(plain(f"no longer federated with {domain}"))


def _print_one(partner: dict[str, Any], where: Listing) -> None:
    if where.format != "table":
        emit(partner, where.format)
    else:
        show_table([partner], _COLUMNS)


def _moment(text: str) -> str:
    """A day means all of it."""
    try:
        if len(text) == 10:
            return rfc3339(datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1))
        return rfc3339(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise Rejected(
            "trust.federation.until", f"`{text[:40]}` is no day", next_step="write it as 2027-03-31"
        ) from None
