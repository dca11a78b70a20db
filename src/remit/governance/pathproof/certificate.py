"""What is signed when no path is open, and how anybody checks it with the ledger's public key alone.

A certificate speaks of one graph and one policy, at one moment. It is in the ledger by its digest; the file carries the
certificate, a note over its digest under the ledger's key, the ledger's entry, and the proof that the entry is in it.
When the graph of its scope, the policies or its exceptions are no longer the same, it says nothing of now.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from remit.governance.pathproof.model import GuardKind, Report
from remit.kernel.canonical import Json, digest
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected
from remit.ledger.note import NoteSigner, VerifierKey, parse_note, sign_note, verify_note
from remit.ledger.proofs import parse_bundle, verify_bundle

ENTRY: Final = "governance.proof.certified"
LIFE: Final = timedelta(days=30)
"""The longest that one certificate lasts; a proof is cheap to make again."""
_HEADER: Final = "remit path-proof v1"
_MAX_BYTES: Final = 16 << 20
_LISTED: Final = 10_000
_GUARDS: Final = 500
_ROOM: Final = 24_000
"""Bytes of an entry for the names of its guards."""


class CertificateFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file's own form, version 1."""

    v: int
    certificate: dict[str, Any]
    note: str
    entry: str
    """The ledger's leaf, base64."""
    bundle: str
    """C2SP tlog-proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A certificate whose signature and place in the ledger hold."""

    certificate: Mapping[str, Any]
    digest: str
    leaf: int
    log: str
    over: bool
    """Its own time is over."""


def content(report: Report, *, installation: str) -> dict[str, Json]:
    """What is certified; only for a report without obstacles."""
    assert not report.obstacles, "a certificate says that nothing is open"
    ends = [report.now + LIFE, *(one.expires for one in report.excuses if one.id in _relied(report))]
    resources: list[Json] = [
        {"name": name, "status": one.status.value, "decided": one.decided, "excepted": one.excepted}
        for one in report.verdicts
        for name in one.resources
    ]
    return {
        "kind": "path-proof",
        "installation": installation,
        "scope": report.scope,
        "time": rfc3339(report.now),
        "expires": rfc3339(min(ends)),
        "graph": dict(report.graph),
        "policy": {"version": report.policy.version, "digest": report.policy.digest},
        "invariants": list(report.policy.proved),
        "solver": report.policy.solver,
        "counts": dict(report.counts),
        "resources": resources[:_LISTED],
        "guards": [{"node": one.node, "kind": one.kind.value, "why": one.why} for one in _guards(report)],
        "exceptions": [
            {"id": one.id, "expires": rfc3339(one.expires), "untested": list(one.untested)}
            for one in report.excuses
            if one.id in _relied(report)
        ],
        "blind": list(report.blind),
    }


def _relied(report: Report) -> set[str]:
    return {each for one in report.verdicts for each in one.excuses}


def _guards(report: Report) -> list[Any]:
    used = {each for one in report.verdicts for each in one.guards}
    return [one for one in report.guards if one.node in used][:_LISTED]


def entry_data(certificate: Mapping[str, Any]) -> dict[str, Json]:
    """What the ledger keeps of it."""
    kept = ("scope", "expires", "graph", "policy", "counts", "solver")
    return {
        "digest": digest(dict(certificate)),
        **{name: certificate[name] for name in kept},
        "exceptions": [each["id"] for each in certificate["exceptions"]],
        "guards": _few(each["node"] for each in certificate["guards"] if each["kind"] != GuardKind.LEASE.value),
    }


def _few(names: Iterable[str]) -> list[Json]:
    """As many as an entry of the ledger holds whole."""
    found: list[Json] = []
    room = _ROOM
    for each in names:
        room -= len(each.encode()) + 4
        if room < 0 or len(found) >= _GUARDS:
            break
        found.append(each)
    return found


def note_over(certificate: Mapping[str, Any], signer: NoteSigner) -> str:
    """The signed note over the certificate's digest."""
    return sign_note(_text(digest(dict(certificate))), signer).decode()


def write_file(certificate: Mapping[str, Any], *, note: str, entry: bytes, bundle: str) -> bytes:
    """The file for whoever is to check it."""
    made = CertificateFile(
        v=1, certificate=dict(certificate), note=note, entry=base64.b64encode(entry).decode(), bundle=bundle
    )
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"


def verify_file(data: bytes, key: VerifierKey, *, now: datetime, scope: str = "") -> Checked:
    """Prove that the ledger of `key` holds this very certificate, and that it speaks of `scope` where one is given.

    Raises `Rejected`: `governance.proof.malformed`, `governance.proof.mismatch` where the parts do not belong together,
    `ledger.note.*`, `ledger.checkpoint.*`, `ledger.proof.mismatch`.
    """
    if len(data) > _MAX_BYTES:
        raise _malformed("it is too large")
    try:
        file = msgspec.json.decode(data, type=CertificateFile)
        entry = base64.b64decode(file.entry.encode("ascii"), validate=True)
        said = msgspec.json.decode(entry)
        over = now >= datetime.fromisoformat(file.certificate["expires"])
    except (msgspec.DecodeError, msgspec.ValidationError, binascii.Error, UnicodeEncodeError) as error:
        raise _malformed(str(error)[:200]) from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except (KeyError, TypeError, ValueError):
        raise _malformed("it does not say when it ends") from None
    if file.v != 1:
        raise _malformed(f"its version is {file.v}, not 1")
    # 1. The key signed the digest of what the file says.
    named = digest(file.certificate)
    note = verify_note(parse_note(file.note.encode()), key)
    if note.text != _text(named):
        raise _mismatch("what was signed is another certificate")
    # 2. The ledger of the same key holds an entry of this very digest.
    included = verify_bundle(entry, parse_bundle(file.bundle.encode()), key)
    if not isinstance(said, dict) or said.get("type") != ENTRY or (said.get("data") or {}).get("digest") != named:
        raise _mismatch("the ledger's entry is of another certificate")
    if scope and file.certificate.get("scope") != scope:
        raise _mismatch(f"it speaks of `{str(file.certificate.get('scope'))[:200]}`")
    return Checked(certificate=file.certificate, digest=named, leaf=included.index, log=key.name, over=over)


def _text(named: str) -> bytes:
    return f"{_HEADER}\n{named}\n".encode()


def _malformed(why: str) -> Rejected:
    return Rejected("governance.proof.malformed", f"this is no certificate: {why}")


def _mismatch(why: str) -> Rejected:
    return Rejected(
        "governance.proof.mismatch", f"the certificate does not hold: {why}",
        next_step="keep the file as evidence, and ask for it again where it was issued",
    )  # fmt: skip
