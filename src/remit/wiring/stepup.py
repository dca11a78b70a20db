"""Step-up: a workload that holds an SVID shows a second, different proof; for a while policies see when that was.

The proof goes through the proof desk and counts once. It must be of the same workload: the evidence matches a
registration entry of the very SPIFFE ID that the SVID names. What comes of it is one number, `step_up_at`, which the
decision point adds to what is proven of the identity, or of the very SVID alone where that was asked for. It goes with
the snapshot, so that local decision points know it as well. After a restart it is read back from the ledger, signed.

The same attestation twice is no second proof: what the SVID was issued on, its registration entry, does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from remit.access.snapshot import step_up_key
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Denied
from remit.trust.model import Evidence, PresentedSvid
from remit.trust.ports import IssuedFilter
from remit.trust.proofs import Proof, Question

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane
    from remit.wiring.snapshots import SnapshotFeed

STEPPED_UP: Final = "trust.proof.accepted"
MOST_SECONDS: Final = 3600
"""For how long a second proof is remembered; how fresh it must be, each policy says."""
SIGNED_AS: Final = "trust.proof.step-up"
_MOST: Final = 65_536
_MOST_READ: Final = 10_000
"""Of the ledger, at start: older ones of a very busy hour are shown again."""


class StepUps:
    """Takes second proofs, for one control plane; `feed` carries them to whoever decides."""

    def __init__(self, control: ControlPlane, feed: SnapshotFeed) -> None:
        self._control = control
        self._feed = feed
        self._moments = feed.stepped_up

    async def open(self) -> None:
        """Read back what was shown within the hour: what was not signed here counts nothing."""
        control = self._control
        entries = await control.store.read(lambda unit: unit.ledger.latest(_MOST_READ, type_prefix=STEPPED_UP))
        for entry in reversed(entries):
            key, seconds = entry.data.get("key"), entry.data.get("seconds")
            if not isinstance(key, str) or not isinstance(seconds, int):
                continue
            told: dict[str, Json] = {"key": key, "seconds": seconds}
            if control.keys.verify(SIGNED_AS, told, str(entry.data.get("signature", ""))):
                self._keep(key, seconds)
        self._forget()

    async def present(self, svid: PresentedSvid, proofs: Sequence[Proof], *, alone: bool = False) -> int | Question:
        """Verify proofs of the SVID's holder: when it stepped up, or a question that it must answer first.

        `alone`: it counts for this SVID, and not for its identity. Raises what `ProofDesk.present` raises, and
        `Denied` (`trust.proof.another`, `trust.proof.same`).
        """
        identity = self._identity(svid)
        found = await self._control.proofs.present(proofs, source=_source(svid))
        return found if isinstance(found, Question) else await self._take(svid, identity, found, alone)

    async def answer(
        self, svid: PresentedSvid, session: str, answers: Mapping[str, Mapping[str, Any]], *, alone: bool = False
    ) -> int:
        """Verify the answers to a question. Raises as `present`."""
        identity = self._identity(svid)
        found = await self._control.proofs.answer(session, answers, source=_source(svid))
        return await self._take(svid, identity, found, alone)

    def _identity(self, svid: PresentedSvid) -> str:
        identity = self._control.token_grants.identity_of(str(svid.spiffe_id))
        if not identity:
            raise Denied("trust.proof.another", f"`{svid.spiffe_id}` is no identity of this installation")
        return identity

    async def _take(self, svid: PresentedSvid, identity: str, evidence: Evidence, alone: bool) -> int:
        control = self._control
        mine = [each for each in control.trust.match(evidence) if each.spiffe_id == svid.spiffe_id]
        if not any(each.identity in ("", identity) for each in mine):
            raise Denied(
                "trust.proof.another",
                f"the proof is good, and not of `{svid.spiffe_id}`",
                next_step="register what it shows: `remit entry create --spiffe-id ID --selector …`",
            )
        first = await self._first_entry(svid)
        if not first or all(each.id == first for each in mine):
            raise Denied(
                "trust.proof.same",
                f"the proof is the one by which `{svid.spiffe_id}` got its SVID" if first
                else f"it is not known by which proof `{svid.spiffe_id}` got its SVID",
                next_step="show another one: `remit step-up --attest KIND`, with an entry of its own for it",
            )  # fmt: skip
        now = control.clock.now()
        seconds = int(now.timestamp())
        told: dict[str, Json] = {
            "key": step_up_key(identity, f"{svid.serial:x}" if alone else ""), "seconds": seconds,
        }  # fmt: skip
        data: dict[str, Json] = {
            "attestor": evidence.attestor, "evidence": evidence.digest, "at": rfc3339(now), **told,
            "signature": control.keys.sign(SIGNED_AS, told),
        }  # fmt: skip
        await control.store.write(
            lambda unit: unit.record(STEPPED_UP, actor=str(svid.spiffe_id), subject=identity, data=data)
        )
        # Known once it is committed; the event may have woken the feed before.
        self._keep(str(told["key"]), seconds)
        self._feed.remeasure(())
        await self._feed.settle()
        return seconds

    async def _first_entry(self, svid: PresentedSvid) -> str:
        """The registration entry on which the SVID was issued; empty where nobody here remembers."""
        where = IssuedFilter(now=self._control.clock.now(), id=f"{svid.serial:x}", kind="x509-svid")
        found = await self._control.store.read(lambda unit: unit.trust.issued(where, limit=1))
        return found[0].entry if found else ""

    def _keep(self, key: str, seconds: int) -> None:
        if len(self._moments) >= _MOST:
            self._forget()
        while len(self._moments) >= _MOST:
            self._moments.pop(next(iter(self._moments)))
        self._moments[key] = max(seconds, self._moments.pop(key, seconds))

    def _forget(self) -> None:
        """Let go of what is older than anybody may ask for."""
        oldest = self._control.clock.now().timestamp() - MOST_SECONDS
        for each in [name for name, at in self._moments.items() if at < oldest]:
            del self._moments[each]


def _source(svid: PresentedSvid) -> str:
    return f"step-up:{svid.spiffe_id}"
