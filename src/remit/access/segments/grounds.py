"""Where rules hold: nftables of this machine, a PostgreSQL's pg_hba.conf, a cluster that others configure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from remit.access.segments import pg_hba
from remit.access.segments.model import Check, Segment, Verdict
from remit.kernel.errors import Rejected, RemitError
from remit.providers.network import Attempted, HbaFile, Nft, attempt
from remit.providers.network.hba import FromElsewhere, read
from remit.providers.postgres.address import Address
from remit.providers.postgres.login import Admitted, Attempt, Refused, login

MAX_USERS: Final = 16
"""Users of this machine from which one probe tries; the rest are told to be unmeasured."""
_NOBODY: Final = 65534
_WRONG: Final = "no password at all"

Trial = Callable[[str, str], Awaitable[str]]
"""Make a credential for (database, role), log in with it, and end it; what went wrong, or nothing."""


class NftGround:
    """The network namespace of the control plane."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft

    def require(self) -> None:
        return

    async def put(self, mark: str, text: str) -> None:
        await self._nft.load(text)

    async def back(self, mark: str, text: str) -> None:
        await (self._nft.load(text) if text else self._nft.delete(mark))

    async def listing(self, mark: str) -> str:
        return await self._nft.listing(mark)

    async def checks(self, segment: Segment, *, thorough: bool) -> Sequence[Check]:
        host = _one_address(segment)
        if not host:
            return [_unmeasured("from this machine", "open", "the target has no single address")]
        found = [_opens("Remit itself", await attempt(host, segment.port))]
        users = sorted({each.source.uid for each in segment.openings if each.source.uid is not None})
        for uid in users[:MAX_USERS]:
            found.append(_opens(f"uid {uid}", await attempt(host, segment.port, uid=uid)))
        found += [_unmeasured(f"uid {uid}", "open", "too many users to try") for uid in users[MAX_USERS:]]
        stranger = next(uid for uid in range(_NOBODY, 0, -1) if uid not in (*users, segment.uid))
        found.append(_shuts(f"uid {stranger}", await attempt(host, segment.port, uid=stranger)))
        return [*found, *_from_afar(segment)]


class HbaGround:
    """A PostgreSQL on this machine whose pg_hba.conf we may write; without `file` it is only probed."""

    def __init__(self, server: HbaFile, address: Address, secret: str, *, file: str, trial: Trial) -> None:
        self._server = server
        self._address = address
        self._secret = secret
        self._file = file
        self._trial = trial

    def require(self) -> None:
        if not self._file:
            raise Rejected(
                "access.segment.file", "which pg_hba.conf is written must be said",
                next_step="give its absolute path by --file; the server tells it by `SHOW hba_file`",
            )  # fmt: skip

    async def put(self, mark: str, text: str) -> None:
        await self._server.rewrite(self._file, pg_hba.replaced(read(self._file), mark, text))

    async def back(self, mark: str, text: str) -> None:
        await self.put(mark, text)

    async def listing(self, mark: str) -> str:
        if not self._file:
            return ""
        content = read(self._file)
        region = pg_hba.region_of(content, mark)
        # Ours stand first, or lines above them would decide.
        return hashlib.sha256(region.encode()).hexdigest() if region and content.startswith(region) else ""

    async def checks(self, segment: Segment, *, thorough: bool) -> Sequence[Check]:
        found = [await self._own_login()]
        if not segment.address:
            found.append(_unmeasured("an unknown login", "shut", "we come by a Unix socket"))
        else:
            found += await self._strangers(segment)
            roles = sorted({one for each in segment.openings for one in each.roles}) if thorough else []
            for database, role in roles[:MAX_USERS]:
                wrong = await self._trial(database, role)
                verdict = Verdict.FAIL if wrong else Verdict.PASS
                what = f"a new credential of `{role}` on `{database}`"
                found.append(Check(what=what, expected="open", verdict=verdict, detail=wrong or "logged in from here"))
        return [*found, *_from_afar(segment)]

    async def _own_login(self) -> Check:
        what = "Remit's own login"
        try:
            complaint = await self._server.complaint()
        except RemitError as error:
            return Check(what=what, expected="open", verdict=Verdict.FAIL, detail=error.message)
        if complaint:
            return Check(what=what, expected="open", verdict=Verdict.FAIL, detail=f"pg_hba.conf: {complaint}")
        return Check(what=what, expected="open", verdict=Verdict.PASS, detail="logged in from here")

    async def _strangers(self, segment: Segment) -> Sequence[Check]:
        """A name that no rule admits must be turned away before it is asked for a password."""
        nobody = replace(self._address, user=f"{segment.mark}_nobody")
        here = "an unknown login from here"
        if segment.patterns:
            found = [_turned_away(here, await login(nobody, _WRONG))]
        else:
            found = [
                _unmeasured(here, "shut", "before PostgreSQL 16 every login may be tried from Remit's own address")
            ]
        elsewhere = _other_loopback(segment)
        if elsewhere:
            async with FromElsewhere(nobody, elsewhere) as way:
                found.append(_turned_away(f"an unknown login from {elsewhere}", await login(nobody, _WRONG, over=way)))
        return found


class ClusterGround:
    """A Kubernetes cluster: its rules are applied by those who administer it, and its pods are not ours to be."""

    def require(self) -> None:
        raise Rejected(
            "access.segment.by_hand", "Remit does not apply NetworkPolicy documents",
            next_step="`remit segment plan TARGET --for kubernetes | kubectl apply -f -`",
        )  # fmt: skip

    async def put(self, mark: str, text: str) -> None:
        self.require()

    async def back(self, mark: str, text: str) -> None:
        return

    async def listing(self, mark: str) -> str:
        return ""

    async def checks(self, segment: Segment, *, thorough: bool) -> Sequence[Check]:
        return [
            _unmeasured(f"pods of {each.task}", "open", "Remit runs in none of its pods") for each in segment.openings
        ] + [_unmeasured("any other pod", "shut", "Remit runs in none of the cluster's pods")]


def _turned_away(what: str, tried: Attempt) -> Check:
    match tried:
        case Refused() as refused if refused.sqlstate == "28000" and not refused.asked:
            return Check(what=what, expected="shut", verdict=Verdict.PASS, detail=str(refused)[:200])
        case Refused():
            detail = "it was asked for a password: the rules do not hold"
            return Check(what=what, expected="shut", verdict=Verdict.FAIL, detail=detail)
        case Admitted():
            return Check(what=what, expected="shut", verdict=Verdict.FAIL, detail="it was let in")
        case unreached:
            return _unmeasured(what, "shut", unreached.why)


def _other_loopback(segment: Segment) -> str:
    """An address of this machine's loopback interface that no rule admits, where we come by it ourselves."""
    if not segment.address or ":" in segment.address or not ipaddress.ip_address(segment.address).is_loopback:
        return ""
    admitted = [ipaddress.ip_network(one) for each in segment.openings for one in each.source.networks]
    for number in range(250, 1, -1):
        address = ipaddress.ip_address(f"127.0.0.{number}")
        if str(address) != segment.address and not any(address in network for network in admitted):
            return str(address)
    return ""


def _one_address(segment: Segment) -> str:
    for each in segment.networks:
        network = ipaddress.ip_network(each)
        if network.num_addresses == 1:
            return str(network.network_address)
    return ""


def _opens(who: str, got: Attempted) -> Check:
    verdict = {Attempted.CONNECTED: Verdict.PASS, Attempted.NOT_PERMITTED: Verdict.UNMEASURED}.get(got, Verdict.FAIL)
    return Check(what=who, expected="open", verdict=verdict, detail=got.value)


def _shuts(who: str, got: Attempted) -> Check:
    verdict = {Attempted.REFUSED: Verdict.PASS, Attempted.CONNECTED: Verdict.FAIL}.get(got, Verdict.UNMEASURED)
    return Check(what=who, expected="shut", verdict=verdict, detail=got.value)


def _from_afar(segment: Segment) -> Iterator[Check]:
    for each in segment.openings:
        if each.source.networks:
            where = ", ".join(each.source.networks)[:200]
            yield _unmeasured(f"{each.task} from {where}", "open", "it is not this machine")


def _unmeasured(what: str, expected: str, why: str) -> Check:
    return Check(what=what, expected=expected, verdict=Verdict.UNMEASURED, detail=why)
