"""Names of credentials on targets: `remit_<instance>_<ulid>`, read back by their full pattern and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from remit.kernel.errors import Rejected

PRINCIPAL = re.compile(r"remit_([a-z0-9]{8})_([0-9a-hjkmnp-tv-z]{26})")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def instance_of(principals: Sequence[str]) -> str:
    """The one installation of all of them; `Rejected` (`access.principal.foreign`) for any other name."""
    instances = set()
    for principal in principals:
        match = PRINCIPAL.fullmatch(principal)
        if match is None:
            raise Rejected("access.principal.foreign", f"`{principal[:80]}` is no principal of Remit")
        instances.add(match[1])
    if len(instances) != 1:
        raise Rejected("access.principal.foreign", "the principals are of more than one installation")
    return str(instances.pop())


def of_instance(names: Iterable[str], instance: str) -> list[str]:
    """Those of one installation, sorted."""
    matches = ((name, PRINCIPAL.fullmatch(name)) for name in names)
    return sorted(name for name, match in matches if match is not None and match[1] == instance)


def issued_at(principal: str) -> int:
    """Unix time in the name: what is signed again for it is the same, to the byte."""
    value = 0
    for letter in principal.rpartition("_")[2][:10]:
        value = value * 32 + _CROCKFORD.index(letter)
    return value // 1000
