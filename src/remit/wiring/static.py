"""Static credentials: revoked on the target that knows them, and proved by a refused attempt with the very secret.

Remit keeps no secret. To prove a refusal it reads the value again from the place where it was found, for this one
attempt: the scanner's own reader hands each value to a function that compares fingerprints and keeps one match.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.access.model import Proved, Revocation, Target
from remit.inventory.connectors.port import Scan
from remit.inventory.model import Skipped
from remit.inventory.records import CredentialRecord
from remit.inventory.secrets.again import Lying, ReadAgain, Reader, lying
from remit.inventory.secrets.found import Attempt
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import RemitError
from remit.kernel.ids import credential_name
from remit.kernel.unit import Fingerprinter
from remit.wiring.standing_logins import StandingLogins

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_PASSWORDS = ("password", "secret")


def wanted(records: list[CredentialRecord]) -> frozenset[str]:
    """The fingerprints by which the secrets of these credentials are known again."""
    keyed = (each.attributes.get("secret_fingerprint") for each in records)
    return frozenset({*(each.fingerprint for each in records), *(each for each in keyed if isinstance(each, str))})


class StaticCredentials:
    """Finds the target on which an identity's static credential counts, and revokes it there."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self.logins = StandingLogins(control)

    async def preview(self, identity: str, subject: str) -> list[dict[str, Any]]:
        """What `revoke` would do."""
        target, role, records = await self._find(identity, subject)
        if target is None:
            return []
        what = ", ".join(record.fingerprint for record in records) or "no known copy"
        return [
            {
                "id": role,
                "what": f"password of role {role} ({what})",
                "target": target.name,
                "state": "would revoke",
                "proof": "",
            }
        ]

    async def revoke(self, identity: str, subject: str, *, actor: str, reason: str) -> list[dict[str, Any]]:
        """End the login of the identity on its target, end its sessions, prove it; the ledger has intent and result."""
        target, role, records = await self._find(identity, subject)
        if target is None:
            return []
        if not await self.logins.can_end(target):
            return []
        again = await self.read_again(records)
        found = again.secret.decode("utf-8", "replace") if again else None
        outcome = await self.end(identity, target, role, records, found, actor=actor, reason=reason)
        state = (
            "revoked"
            if outcome.gone and isinstance(outcome.proof, Proved)
            else "unproved"
            if outcome.gone
            else "revoking"
        )
        proof = (
            f"refused: {outcome.proof.refusal} (control: {outcome.proof.control})"
            if isinstance(outcome.proof, Proved)
            else outcome.proof.why
        )
        return [{"id": role, "what": f"password of role {role}", "target": target.name, "state": state, "proof": proof}]

    async def end(
        self, identity: str, target: Target, role: str, records: list[CredentialRecord], secret: str | None, *,
        actor: str, reason: str,
    ) -> Revocation:  # fmt: skip
        """End the login `role`, of which `records` are copies, with intent and result in the ledger."""
        control = self._control
        data: dict[str, Json] = {"target": target.name, "principal": role, "reason": reason, "copies": len(records)}
        await control.store.write(
            lambda unit: unit.record("access.credential.revoking", actor=actor, subject=identity, data=data)
        )
        outcome = await self.logins.end(target, role, secret)
        await control.store.write(lambda unit: self._conclude(unit, identity, records, outcome, actor, data))
        return outcome

    async def read_back(self, identity: str) -> str | None:
        """The secret of its live password, read again from where it was found; `None` where it lies nowhere."""
        records = await self._control.store.read(lambda unit: unit.inventory.credentials_of([identity]))
        live = [each for each in records if each.kind in _PASSWORDS and each.state != "revoked"]
        again = await self.read_again(live)
        return again.secret.decode("utf-8", "replace") if again else None

    async def places_of(self, identity: str) -> list[tuple[Path, list[int]]]:
        """The files in which its passwords lie, each with the lines."""
        records = await self._control.store.read(lambda unit: unit.inventory.credentials_of([identity]))
        nodes = [credential_name(each.fingerprint) for each in records if each.kind in _PASSWORDS]
        found: dict[Path, list[int]] = {}
        for each in await self._control.store.read(lambda unit: unit.inventory.sightings_of(nodes)):
            if each.fact.get("exposed") and each.connector == "files":
                head, _, line = ("/" + each.place.partition("/")[2]).rpartition(":")
                numbered = bool(head) and line.isdecimal()
                path = Path(head if numbered else "/" + each.place.partition("/")[2])
                found.setdefault(path, []).extend([int(line)] if numbered else [])
        return sorted(found.items())

    async def places(self, records: list[CredentialRecord]) -> list[Lying]:
        """Where the secrets of these credentials lie, as sources said last; files before history."""
        nodes = [credential_name(each.fingerprint) for each in records]
        seen = await self._control.store.read(lambda unit: unit.inventory.sightings_of(nodes))
        found = [
            lying(each.place, each.fact) for each in seen if each.fact.get("exposed") and each.connector == "files"
        ]
        return sorted({each for each in found if each is not None}, key=lambda each: (each.in_history, each.path))

    async def read_again(self, records: list[CredentialRecord], attempt: Attempt | None = None) -> ReadAgain | None:
        """The secret of one of `records`, read again where it was found; `attempt` asks its issuer about it."""
        places = await self.places(records)
        return await asyncio.to_thread(self._read, wanted(records), places, attempt)

    async def _find(self, identity: str, subject: str) -> tuple[Target | None, str, list[CredentialRecord]]:
        def look(unit: Any) -> tuple[list[str], list[CredentialRecord]]:
            return unit.inventory.names_of(identity), unit.inventory.credentials_of([identity])

        names, credentials = await self._control.store.read(look)
        records = [each for each in credentials if each.kind in _PASSWORDS and each.state != "revoked"]
        if subject.startswith(("hmac:", "sha256:")):
            records = [each for each in records if each.fingerprint == subject]
            if not records:
                return None, "", []
        found = await self.logins.locate(names)
        return (found[0], found[1], records) if found else (None, "", [])

    def _read(self, fingerprints: frozenset[str], places: list[Lying], attempt: Attempt | None) -> ReadAgain | None:
        from remit.inventory.secrets.engine import make_engine

        cache = self._control.settings.data.root / "cache"
        reader = Reader(
            fingerprints, engine=lambda: make_engine(cache=cache), fingerprint=self._control.keys.fingerprint,
            structured=self._as_files, attempt=attempt,
        )  # fmt: skip
        return reader.read(places)

    def _as_files(self, file: Path, fingerprint: Fingerprinter) -> Iterator[object]:
        """What the files connector sees beside `file`."""
        from remit.inventory.connectors.files.connector import FilesConnector

        connector = FilesConnector(file.parent)
        scan = Scan(now=self._control.clock.now(), fingerprint=fingerprint)
        try:
            connector.open()
            for raw in connector.fetch(scan):
                if not isinstance(raw, Skipped):
                    yield from connector.translate(raw, scan)
        except RemitError:
            return
        finally:
            connector.close()

    def _conclude(
        self,
        unit: Any,
        identity: str,
        records: list[CredentialRecord],
        outcome: Revocation,
        actor: str,
        data: dict[str, Json],
    ) -> None:
        proof = (
            {"refusal": outcome.proof.refusal, "control": outcome.proof.control}
            if isinstance(outcome.proof, Proved)
            else {"why": outcome.proof.why}
        )
        if outcome.gone:
            at = rfc3339(unit.now)
            marked = [
                replace(record, state="revoked", attributes={**record.attributes, "revoked_at": at, "probed_at": at})
                for record in records
            ]
            unit.inventory.put_credentials(marked)
            for record in marked:
                unit.inventory.set_credential_state(record.fingerprint, "revoked")
        unit.record(
            "access.credential.revoked" if outcome.gone else "access.credential.unreachable",
            actor=actor,
            subject=identity,
            data={**data, "sessions_ended": outcome.sessions_ended, "proof": proof},
        )
