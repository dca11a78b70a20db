"""Live TLS endpoints as a source: the certificates that they present, and how they speak. Only those that are named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import get_args

from remit.inventory.connectors.files.formats import Malformed, decode
from remit.inventory.connectors.files.pem import load_certificate, record_certificate
from remit.inventory.connectors.files.record import FileRead
from remit.inventory.connectors.files.repository import small_file
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, IdentityFact, IdentityKind, Place, Relation, Severity, Skipped
from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.kernel.ids import Name
from remit.providers.tls_probe import LEGACY, PORTS, Endpoint, Seen, Start, probe

MANIFEST = ConnectorManifest(
    id="tls",
    record_of=("tls", "spiffe"),
    title="Live TLS endpoints",
    source="HOST:PORT, several with commas between them, or a file with one on each line; smtp://HOST:PORT and "
    "postgres, imap, ldap, mysql start TLS in their own way",
    observes=(
        "the chain that an endpoint presents: names, SPIFFE ID, issuer, expiry, key (joined with key files by SPKI)",
        "weak keys and signatures, chains that a strict client refuses",
        "versions of TLS that it takes, and whether it asks for or requires a client's certificate",
    ),
    needs=(Permission(grant="a connection to the port", why="nothing is sent but handshakes: no login"),),
    blind_to=(
        Blind(what="endpoints that nobody named", why="no network is searched: a list is the owner's consent"),
        Blind(what="certificates behind other server names", why="name each: the name is sent in the handshake"),
        Blind(what="versions that this machine's TLS library no longer speaks", why="SSL 3 and older"),
    ),
    options=(Option(name="ca", help="file of the authorities to check against; the machine's by default"),),
    hazards=("an endpoint logs up to seven handshakes that end early",),
)
MOST = 2_000
_AT_ONCE = 16


class TlsConnector:
    """Looks at each endpoint; one that does not answer leaves what is known of all as it was."""

    manifest = MANIFEST
    instance = "endpoints"

    def __init__(self, source: str, endpoints: tuple[Endpoint, ...], *, ca: str = "") -> None:
        self._source = source
        self._endpoints = endpoints
        self._ca = ca

    @property
    def scope(self) -> str:
        """The list's place, or a short form of what was named."""
        mark = hashlib.sha256(self._source.encode("utf-8", "replace")).hexdigest()[:8]
        return self._source if len(self._source) <= 200 else f"{clean(self._source, 100)} {mark}"

    def open(self) -> None:
        """Nothing is held; `Rejected` (`inventory.tls.authorities`) where the file of authorities cannot be read."""
        if self._ca and small_file(self._ca) is None:
            raise Rejected("inventory.tls.authorities", f"`{self._ca[:200]}` cannot be read",
                           next_step="name a file of PEM certificates: --set ca=FILE")  # fmt: skip

    def fetch(self, scan: Scan) -> Iterator[Seen | Skipped]:
        """What each endpoint shows. Raises `Unavailable` after the last where one does not answer."""
        away: list[str] = []
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="remit-tls") as threads:
            for number, (endpoint, found) in enumerate(
                zip(self._endpoints, threads.map(lambda each: self._look(each, scan), self._endpoints), strict=True)
            ):
                scan.progress(number + 1, str(endpoint))
                if isinstance(found, Skipped) and found.reason == "unreachable":
                    away.append(str(endpoint))
                yield found
        if away:
            raise Unavailable(
                "inventory.tls.unreachable", f"{len(away)} of {len(self._endpoints)} endpoints do not answer: "
                f"`{', '.join(away)[:200]}`", next_step="take out of the list what is gone; the others were read",
            )  # fmt: skip

    def _look(self, endpoint: Endpoint, scan: Scan) -> Seen | Skipped:
        if scan.stopped():
            return Skipped(what=str(endpoint), reason="not-supported", detail="the run was stopped")
        try:
            return probe(endpoint, ca=self._ca)
        except RemitError as error:
            reason = "unreachable" if isinstance(error, Unavailable) else "not-supported"
            return Skipped(what=str(endpoint), reason=reason, detail=error.message)

    def translate(self, raw: Seen, scan: Scan) -> Iterable[Fact]:
        """The facts of one endpoint. A SPIFFE ID joins identities only where the chain leads to authorities given."""
        sheet = TlsSheet(raw, scan)
        _record(sheet, raw)
        sure = bool(self._ca) and raw.trusted
        for fact in sheet.facts():
            yield fact if sure or not isinstance(fact, IdentityFact) or not fact.aliases else replace(fact, aliases=())

    def close(self) -> None:
        """Nothing is held."""


class TlsSheet(Sheet):
    """A sheet about an endpoint instead of a file."""

    rules = "tls"

    def __init__(self, seen: Seen, scan: Scan) -> None:
        where = str(seen.endpoint)
        super().__init__(FileRead(path=where, reader="tls", data=b"", host=where, account=""), scan)

    def place(self, line: int | None = None) -> Place:
        return Place(system="tls", path=self.file.path)


def _record(sheet: TlsSheet, seen: Seen) -> None:
    endpoint = sheet.identity(
        sheet.name("tls", seen.endpoint.host, "endpoint", str(seen.endpoint)), IdentityKind.WORKLOAD,
        f"{seen.endpoint.start} at {seen.endpoint}",
        attributes={
            "versions": ", ".join(seen.versions), "cipher": seen.cipher, "client_certificate": seen.client_certificate,
            "starts": seen.endpoint.start, "port": seen.endpoint.port,
        },
    )  # fmt: skip
    for number, der in enumerate(seen.chain):
        try:
            node = record_certificate(sheet, load_certificate(der, pem=False))
        except Malformed:
            sheet.skip("malformed", "a certificate of the chain")
            continue
        if number == 0:
            sheet.edge(endpoint, Relation.HOLDS, node, "presents it")
    _findings(sheet, seen, endpoint)


def _findings(sheet: TlsSheet, seen: Seen, endpoint: Name) -> None:
    where = seen.endpoint
    if old := [version for version in seen.versions if version in LEGACY]:
        sheet.finding(
            "legacy-version",
            Severity.MEDIUM,
            f"{where} takes {', '.join(old)}",
            "these versions can be attacked, and RFC 8996 forbids them",
            "take TLS 1.2 and later alone",
            subject=endpoint,
        )
    if seen.trouble:
        sheet.finding(
            "untrusted-chain", Severity.MEDIUM, f"a strict client refuses {where}: {clean(seen.trouble, 100)}",
            "whoever connects all the same does not check, and would take anybody's certificate",
            "present the whole chain for the name that clients use; for a private authority: --set ca=FILE",
            subject=endpoint,
        )  # fmt: skip


def make(source: str, options: Mapping[str, str], secret: str) -> TlsConnector:
    """A connector on the endpoints named; `Rejected` (`inventory.tls.source`) for what names none, or too many."""
    path = Path(source)
    words = source.split(",")
    if "/" in source and "://" not in source:
        data = small_file(str(path))
        if data is None:
            raise _strange(source)
        words = [line.partition("#")[0] for line in decode(data).splitlines()]
    endpoints = tuple(dict.fromkeys(_endpoint(word.strip()) for word in words if word.strip()))
    if not endpoints or len(endpoints) > MOST:
        raise _strange(source)
    return TlsConnector(source, endpoints, ca=options.get("ca", ""))


def _endpoint(word: str) -> Endpoint:
    scheme, sign, rest = word.partition("://")
    start = {"https": "tls", "ldaps": "tls", "postgresql": "postgres"}.get(scheme, scheme) if sign else "tls"
    rest = (rest if sign else word).rstrip("/")
    known: dict[str, Start] = {name: name for name in get_args(Start)}
    host, mark, port = rest.rpartition(":")
    if not mark or rest.endswith("]"):
        host, port = rest, str(PORTS[known[start]]) if start in known else ""
    host = host.removeprefix("[").removesuffix("]").lower()
    good = host and len(host) <= 255 and all(one.isalnum() or one in "-._:%" for one in host)
    if start not in known or not good or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65_536:
        raise _strange(word)
    return Endpoint(host=host, port=int(port), start=known[start])


def _strange(source: str) -> Rejected:
    return Rejected(
        "inventory.tls.source", f"`{source[:100]}` names no endpoints",
        next_step=f"write HOST:PORT, or a file with at most {MOST} of them, one on each line",
    )  # fmt: skip
