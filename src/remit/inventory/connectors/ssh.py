"""SSH as a source: what a host's sshd admits, by which keys, and when each was used last."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from remit.inventory.connectors import ssh_facts
from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.host import host_fingerprint, parse_passwd
from remit.inventory.connectors.files.record import FileRead
from remit.inventory.connectors.files.repository import small_file
from remit.inventory.connectors.files.sheet import clean
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.connectors.ssh_facts import Context, SshRead, Used
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.ssh.client import Host
from remit.providers.ssh.inventory import Item, here, over_ssh, script

MANIFEST = ConnectorManifest(
    id="ssh",
    record_of=("host",),
    title="OpenSSH server",
    source="`local` for this machine, or ssh://USER@HOST:PORT",
    observes=(
        "effective settings of sshd (`sshd -T`)",
        "authorized_keys of every account: options, addresses, forced commands, authorities, expiry",
        "authorities of users' certificates, authorized principals, revoked keys, host keys",
        "hosts that accounts know (known_hosts)",
        "last use of each key, authority and password, from the journal or auth.log",
        "keys that open several accounts; weak keys; password and root logins",
    ),
    needs=(
        Permission(
            grant='restrict,command="/usr/local/sbin/remit-ssh-facts" ssh-ed25519 … in root\'s authorized_keys',
            why="sshd -T, closed homes and the log are root's to read; the script (docs/plugins.md) takes no argument "
            "and is all that this key can run",
        ),
    ),
    blind_to=(
        Blind(what="Match blocks of sshd_config", why="sshd -T shows what holds for nobody in particular"),
        Blind(what="AuthorizedKeysCommand and AuthorizedPrincipalsCommand", why="they are programs; said as a finding"),
        Blind(what="content of binary revocation lists", why="they hold hashes and serials, not keys"),
        Blind(what="hashed names in known_hosts", why="they can only be guessed"),
        Blind(what="use before the log begins", why="of the journal the last 90 days are read"),
    ),
    options=(
        Option(name="key", help="file of the private key, without passphrase; else it is read from standard input"),
        Option(name="known_hosts", help="file with the host's key or authority; ~/.ssh/known_hosts by default"),
        Option(name="config", help="sshd's configuration file, where it is not the usual one"),
        Option(name="log", help="sshd's log file, where it is not the usual one"),
    ),
    hazards=("without a forced command the key opens a shell: use the line above",),
)


_ROOT = re.compile(r"^permitrootlogin (\S+)", re.MULTILINE)


class SshConnector:
    """Reads one host, once: the script's answer is at most 64 MiB. It runs its own event loop."""

    manifest = MANIFEST
    scope = "sshd"

    def __init__(self, host: Host | None, user: str, options: Mapping[str, str], secret: str) -> None:
        self._host = host
        self._user = user
        self._options = dict(options)
        self._secret = secret
        self._items: list[Item] = []
        self._instance = ""
        self._context = Context()

    def __repr__(self) -> str:
        return f"SshConnector({self._host or 'local'})"

    @property
    def instance(self) -> str:
        """The machine's fingerprint, as every connector of this host says it; known after `open`."""
        assert self._instance, "open comes first"
        return self._instance

    def open(self) -> None:
        """Collect; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        text = script(config=self._options.get("config", ""), log=self._options.get("log", ""))
        if self._host is None:
            self._items = asyncio.run(here(text))
        else:
            self._items = asyncio.run(over_ssh(self._host, self._user, self._key(), text))
        own = {item.kind: item.data for item in self._items if item.kind in {"machine", "name", "zone", "passwd"}}
        self._instance = host_fingerprint(own.get("machine") or own.get("name") or None)
        accounts, homes = parse_passwd(own.get("passwd", b""))
        self._context = Context(
            passwd=own.get("passwd", b""), zone=own.get("zone", b"").decode("ascii", "replace").strip(),
            accounts=accounts, homes=homes,
            principals={item.account: item.data for item in self._items if item.kind == "principals"},
            by_file=any(item.kind == "settings" and _says_principals(item.data, b"file") for item in self._items),
            root_login=next((said for item in self._items if item.kind == "settings"
                             for said in _ROOT.findall(item.data.decode("utf-8", "replace"))), ""),
            by_program=any(item.kind == "settings" and _says_principals(item.data, b"command") for item in self._items),
        )  # fmt: skip

    def fetch(self, scan: Scan) -> Iterator[SshRead | Skipped]:
        """Every file that sshd reads, then each use of a key and each key of several accounts."""
        for number, item in enumerate(self._items):
            if item.kind in {"machine", "name", "zone", "passwd", "log"}:
                continue
            if item.kind in {"closed", "large", "refused"}:
                yield _skipped(item)
                continue
            if scan.stopped():
                yield Skipped(what=clean(item.path), reason="not-supported", detail="the run was stopped")
                continue
            scan.progress(number, clean(item.path))
            yield SshRead(kind=item.kind, account=item.account, file=self._file(item))
        trusted = ssh_facts.trusted(item for item in self._items if item.kind in {"authorized", "authority"})
        for public, accounts, line in trusted.values():
            if len(accounts) > 1:
                file = self._file(Item(kind="shared", account="", path=line, data=b""))
                yield SshRead(kind="shared", account="", file=file, public=public, accounts=tuple(sorted(accounts)))
        for used in self._uses(scan.now):
            known = trusted.get(used.ssh_fingerprint)
            file = self._file(Item(kind="use", account=used.account, path=used.path, data=b""))
            yield SshRead(
                kind="use", account=used.account, file=file, used=used, public=known[0] if known else None,
                accounts=tuple(sorted(known[1])) if known else (),
            )  # fmt: skip

    def _uses(self, now: datetime) -> Iterable[Used]:
        logs = [item for item in self._items if item.kind == "log"]
        return ssh_facts.uses([(item.path, item.data) for item in logs], now, self._context.zone)

    def translate(self, raw: SshRead, scan: Scan) -> Iterable[Fact]:
        """The facts of one record; what breaks a reader becomes `Skipped`."""
        sheet = ssh_facts.SshSheet(raw.file, scan)
        try:
            ssh_facts.record(sheet, raw, self._context)
        except (Malformed, ValueError) as error:
            sheet.skip("malformed", type(error).__name__)
        return sheet.facts()

    def close(self) -> None:
        """Forget what was collected."""
        self._items = []

    def _file(self, item: Item) -> FileRead:
        return FileRead(
            path=clean(item.path, 1000), reader="ssh", data=item.data, host=self.instance,
            account=item.account or "root", homes=self._context.homes,
        )  # fmt: skip

    def _key(self) -> str:
        if self._secret:
            # One line of standard input: line ends may be written as \n.
            return self._secret.replace("\\n", "\n") + "\n"
        path = self._options.get("key", "")
        try:
            return Path(path).read_text()
        except (OSError, ValueError):
            raise Misconfigured(
                "inventory.ssh.key", "there is no private key to log in with", next_step="give one: --set key=FILE"
            ) from None


def _says_principals(data: bytes, by: bytes) -> bool:
    return re.search(rb"^authorizedprincipals" + by + rb" (?!none)", data, re.MULTILINE) is not None


def _skipped(item: Item) -> Skipped:
    reason = {"closed": "not-permitted", "large": "too-large", "refused": "unreadable"}[item.kind]
    words = " ".join(item.data.decode("utf-8", "replace").split())[:200]
    return Skipped(what=clean(item.path), reason=reason, detail=clean(words))


def make(source: str, options: Mapping[str, str], secret: str) -> SshConnector:
    """A connector on this machine or on a host; `Rejected` (`inventory.ssh.source`) for another source."""
    if source == "local":
        return SshConnector(None, "", options, secret)
    try:
        url = urlsplit(source)
        port = url.port or 22
    except ValueError:
        raise _strange(source) from None
    if url.scheme != "ssh" or not url.hostname or not url.username or url.password or url.path not in {"", "/"}:
        raise _strange(source)
    path = options.get("known_hosts") or str(Path("~/.ssh/known_hosts").expanduser())
    known = small_file(path)
    if known is None:
        raise Misconfigured(
            "inventory.ssh.known_hosts", f"`{path[:200]}` cannot be read: no host is trusted at first sight",
            next_step="put the host's key there (`ssh-keyscan`, on a path that you trust): --set known_hosts=FILE",
        )  # fmt: skip
    host = Host(name=url.hostname, port=port, known_hosts=known.decode("utf-8", "replace"))
    return SshConnector(replace(host), url.username, options, secret)


def _strange(source: str) -> Rejected:
    return Rejected(
        "inventory.ssh.source", f"`{source[:100]}` is no source of SSH",
        next_step="write `local`, or ssh://USER@HOST:PORT without a password",
    )  # fmt: skip
