"""Names that a system itself uses, as the inventory's own: people and logs say `arn:aws:iam::…:role/deploy`."""

from __future__ import annotations

from collections.abc import Iterable

_AWS = "arn:aws"


def names_of_native(given: str) -> tuple[str, ...]:
    """The names under which the inventory may have what a system calls `given`; empty for what is no such name."""
    if not given.startswith(_AWS):
        return ()
    from remit.inventory.connectors.aws.naming import account_of, principal_name, resource_of, root_name

    if (account := account_of(given)) is not None:
        return (str(root_name(account)),)
    found = principal_name(given)
    if found is None and (parts := given.split(":", 5))[4:5] and parts[4].isdigit():
        found = resource_of(given, parts[4])[0]
    return () if found is None else (str(found),)


def bucket_among(given: str, names: Iterable[str]) -> str | None:
    """The node of an S3 bucket, or of something in it, by an ARN, which does not say the account."""
    if not given.startswith((f"{_AWS}:s3:::", f"{_AWS}-cn:s3:::", f"{_AWS}-us-gov:s3:::")):
        return None
    ending = f":s3:{given.split(':', 5)[5].partition('/')[0]}"
    return next((name for name in names if name.startswith("urn:remit:aws:") and name.endswith(ending)), None)
