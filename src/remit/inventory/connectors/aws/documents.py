"""Files of details → the details of each account.

One account is what `aws iam get-account-authorization-details` writes. Several are a list of such answers, an object
with `Accounts`, or a directory of files; pages of one account are put together. What belongs to no account (the
`Organization`) is told to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from remit.inventory.connectors.aws.account import identify
from remit.inventory.connectors.aws.naming import parse_arn
from remit.kernel.errors import Rejected

MAX_ACCOUNTS: Final = 20_000
_COMMON: Final = "Organization"
_DETAILS: Final = ("UserDetailList", "RoleDetailList", "GroupDetailList", "Policies")


def details_of(documents: Iterable[Any]) -> list[Mapping[str, Any]]:
    """The details of each account, in the order of their numbers.

    Raises `Rejected` as `identify` does, and (`inventory.aws.not-details`) where a document is no object.
    """
    accounts: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    loose: list[Mapping[str, Any]] = []
    for document in _flat(documents, 0):
        if _COMMON in document and not isinstance(document.get("AccountId"), str) and not _has_principals(document):
            shared = {**shared, _COMMON: document[_COMMON]}
        if _has_principals(document) or isinstance(document.get("AccountId"), str):
            _merge(accounts.setdefault(identify(document)[1], {}), document)
        else:
            loose.append(document)
    if not accounts:
        identify({})
    for document in loose:
        _share(accounts, document)
    for number, details in accounts.items():
        details.setdefault("AccountId", number)
        for key, value in shared.items():
            details.setdefault(key, value)
    if len(accounts) > MAX_ACCOUNTS:
        raise Rejected(
            "inventory.aws.too-many-accounts",
            f"there are {len(accounts)} accounts in it; the limit is {MAX_ACCOUNTS}",
            next_step="discover parts of the organisation one after the other",
        )
    return [accounts[number] for number in sorted(accounts)]


def _flat(documents: Iterable[Any], depth: int) -> Iterable[Mapping[str, Any]]:
    for document in documents:
        inside = document.get("Accounts") if isinstance(document, dict) else document
        if isinstance(inside, list) and depth < 2 and not _is_organization(document):
            if isinstance(document, dict) and len(document) > 1:
                yield {key: value for key, value in document.items() if key != "Accounts"}
            yield from _flat(inside, depth + 1)
        elif isinstance(document, dict):
            yield document
        else:
            identify({})


def _is_organization(document: Any) -> bool:
    """`Accounts` of an organisation are its members, with an `Id`; those of an estate are details."""
    inside = document.get("Accounts") if isinstance(document, dict) else None
    return (
        isinstance(inside, list)
        and bool(inside)
        and all(isinstance(one, dict) and "Id" in one and not _has_principals(one) for one in inside)
    )


def _has_principals(document: Mapping[str, Any]) -> bool:
    return any(isinstance(document.get(key), list) and document[key] for key in _DETAILS)


def _merge(known: dict[str, Any], document: Mapping[str, Any]) -> None:
    for key, value in document.items():
        if isinstance(value, list) and isinstance(known.get(key), list):
            known[key] = [*known[key], *value]
        else:
            known[key] = value


def _share(accounts: dict[str, dict[str, Any]], document: Mapping[str, Any]) -> None:
    """Lists of resources beside the accounts: each entry goes where its ARN says, or to the only account."""
    for key, entries in document.items():
        for entry in entries if isinstance(entries, list) and key != _COMMON else ():
            number = _number(entry)
            target = accounts.get(number) if number else next(iter(accounts.values())) if len(accounts) == 1 else None
            if target is not None:
                target[key] = [*target.get(key, ()), entry]


def _number(entry: Any) -> str:
    if not isinstance(entry, dict):
        return ""
    if isinstance(entry.get("AccountId"), str):
        return str(entry["AccountId"])
    arns = (parse_arn(value) for key, value in entry.items() if key.lower().endswith("arn") and isinstance(value, str))
    return next((arn.account for arn in arns if arn is not None and arn.account), "")
