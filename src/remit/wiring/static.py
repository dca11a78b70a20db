"""Static credentials: revoked on the target that knows them, and proved by a refused attempt with the very secret.

Remit keeps no secret. To prove a refusal it reads the value again from the place where it was found, for this one
attempt: the scanner's own reader hands each value to a function that compares fingerprints and keeps one match.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.access.brokers.port import RevokesStatic
from remit.access.model import Proved, Revocation, Target
from remit.inventory.connectors.port import Scan
from remit.inventory.model import Skipped
from remit.inventory.records import CredentialRecord
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import RemitError
from remit.kernel.ids import credential_name, parse_name

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_PASSWORDS = ("password", "secret")


class StaticCredentials:
    """Finds the target on which an identity's static credential counts, and revokes it there."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

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
        control = self._control
        target, role, records = await self._find(identity, subject)
        if target is None:
            return []
        broker = await control.brokers.broker(target.name)
        if not isinstance(broker, RevokesStatic):
            return []
        found = await asyncio.to_thread(self._read_again, records, await self._places(records))
        data: dict[str, Json] = {"target": target.name, "principal": role, "reason": reason, "copies": len(records)}
        await control.store.write(
            lambda unit: unit.record("access.credential.revoking", actor=actor, subject=identity, data=data)
        )
        outcome = await broker.revoke_static(role, found)
        await control.store.write(lambda unit: self._conclude(unit, identity, records, outcome, actor, data))
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

    async def _find(self, identity: str, subject: str) -> tuple[Target | None, str, list[CredentialRecord]]:
        def look(unit: Any) -> tuple[list[str], list[CredentialRecord]]:
            return unit.inventory.names_of(identity), unit.inventory.credentials_of([identity])

        names, credentials = await self._control.store.read(look)
        records = [each for each in credentials if each.kind in _PASSWORDS and each.state != "revoked"]
        if subject.startswith(("hmac:", "sha256:")):
            records = [each for each in records if each.fingerprint == subject]
            if not records:
                return None, "", []
        for target in await self._control.targets.list():
            for each in names:
                parsed = parse_name(each)
                if parsed is None or parsed[0] != target.system or parsed[2] != "role":
                    continue
                if parsed[1] in (target.instance, f"{target.host}:{target.port}") or await self._same_server(
                    target, parsed[1]
                ):
                    return target, parsed[3], records
        return None, "", []

    async def _same_server(self, target: Target, instance: str) -> bool:
        try:
            broker = await self._control.brokers.broker(target.name)
        except RemitError:
            return False
        return isinstance(broker, RevokesStatic) and broker.instance == instance

    async def _places(self, records: list[CredentialRecord]) -> list[Path]:
        nodes = [credential_name(each.fingerprint) for each in records]
        seen = await self._control.store.read(lambda unit: unit.inventory.sightings_of(nodes))
        places = {each.place for each in seen if each.fact.get("exposed") and each.connector == "files"}
        paths = []
        for place in sorted(places):
            # `host:<instance>:<absolute path>[:<line>]`
            path = "/" + place.partition("/")[2]
            head, _, line = path.rpartition(":")
            paths.append(Path(head if line.isdecimal() and head else path))
        return paths

    def _read_again(self, records: list[CredentialRecord], paths: list[Path]) -> str | None:
        from remit.inventory.connectors.files.connector import FilesConnector

        wanted = {record.fingerprint for record in records}
        matches: list[bytes] = []

        def compare(secret: bytes) -> str:
            fingerprint = self._control.keys.fingerprint(secret)
            if fingerprint in wanted:
                matches.append(secret)
            return fingerprint

        for path in paths:
            if not path.is_file():
                continue
            connector = FilesConnector(path.parent)
            scan = Scan(now=self._control.clock.now(), fingerprint=compare)
            try:
                connector.open()
                for raw in connector.fetch(scan):
                    if not isinstance(raw, Skipped):
                        for _ in connector.translate(raw, scan):
                            pass
                    if matches:
                        return matches[0].decode("utf-8", "replace")
            except RemitError:
                continue
            finally:
                connector.close()
        return None

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
