"""What the files and the log of an sshd mean: who gets in by which key, and what is wrong with that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

from remit.inventory.connectors.files.formats import Malformed, decode
from remit.inventory.connectors.files.keys import PublicPart, is_ssh_type, read_ssh_line
from remit.inventory.connectors.files.readers.ssh import (
    MAX_LINES,
    host_identity,
    record_logins,
    record_public,
    split_authorized,
)
from remit.inventory.connectors.files.record import FileRead
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.host.accounts import parse_accounts
from remit.inventory.model import CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name, credential_name
from remit.providers.ssh.inventory import Item

_MOST_USES = 20_000
_MOST_HOSTS = 500
_MOST_ACCOUNTS = 500


class SshSheet(Sheet):
    """A sheet whose findings are the ssh connector's."""

    rules = "ssh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What the log says of one key (or of passwords) on one account."""

    account: str
    method: str
    ssh_fingerprint: str
    authority: str
    """The fingerprint of the authority that signed it, for a certificate."""
    key_id: str
    times: int
    last: datetime | None
    """`None` where the log has no times."""
    addresses: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SshRead:
    """One file that sshd reads, one use, or one key of several accounts."""

    kind: str
    account: str
    file: FileRead
    public: PublicPart | None = None
    accounts: tuple[str, ...] = ()
    used: Used | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a record needs to know of the host around it."""

    passwd: bytes = field(default=b"", repr=False)
    zone: str = "+0000"
    accounts: Mapping[int, str] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)
    principals: Mapping[str, bytes] = field(default_factory=dict)
    """Account → its file of authorized principals."""
    by_file: bool = False
    """Principals are looked up; else an account's name is its only principal."""
    root_login: str = ""
    """`PermitRootLogin` of sshd; empty where it is not known."""
    by_program: bool = False
    """A program names the principals of every account."""


def record(sheet: SshSheet, raw: SshRead, context: Context) -> None:
    """Write the facts of one record."""
    match raw.kind:
        case "settings":
            _settings(sheet)
        case "authorized":
            root = context.root_login if raw.account == "root" else ""
            record_logins(sheet, raw.account, refused=root == "no", only_forced=root == "forced-commands-only")
        case "authority":
            _authorities(sheet, context)
        case "principals":
            _principals(sheet, raw.account)
        case "revoked":
            _revoked(sheet)
        case "hostkey":
            for number, public, comment in _keys(sheet):
                host_identity(sheet, record_public(sheet, public, number, comment=comment))
        case "known":
            _known(sheet, raw.account)
        case "shared" if raw.public is not None:
            _shared(sheet, raw.public, raw.accounts)
        case "use" if raw.used is not None:
            _use(sheet, raw.used, raw.public, raw.accounts)


def _keys(sheet: Sheet) -> Iterable[tuple[int, PublicPart, str]]:
    broken = 0
    for number, line in enumerate(decode(sheet.file.data).splitlines()[:MAX_LINES], 1):
        words = line.split(None, 2)
        if len(words) < 2 or not is_ssh_type(words[0]):
            broken += bool(words and not words[0].startswith("#"))
            continue
        try:
            yield number, read_ssh_line(words[1]), words[2] if len(words) > 2 else ""
        except Malformed:
            broken += 1
    if broken:
        sheet.skip("malformed", f"{broken} lines are no keys")


# Settings

_OLD = {
    "ciphers": re.compile(r"[^,\s]*(?:3des|arcfour|blowfish|cast128|-cbc)[^,\s]*"),
    "macs": re.compile(r"[^,\s]*(?:hmac-md5|hmac-ripemd|hmac-sha1-96)[^,\s]*"),
    "kexalgorithms": re.compile(r"[^,\s]*(?:group1-sha1|group-exchange-sha1|group14-sha1)[^,\s]*"),
    "pubkeyacceptedalgorithms": re.compile(r"(?:ssh-dss|ssh-rsa)(?=,|$)"),
}


def _settings(sheet: SshSheet) -> None:
    said: dict[str, str] = {}
    for line in decode(sheet.file.data).splitlines()[:2000]:
        key, _, value = line.partition(" ")
        said[key.lower()] = f"{said[key.lower()]}, {value}" if key.lower() in said else value
    sshd = sheet.identity(
        sheet.name("host", sheet.file.host, "service", "sshd"), IdentityKind.WORKLOAD, "sshd",
        attributes={
            "service": "sshd", "listens": said.get("listenaddress", ""),
            "password_authentication": said.get("passwordauthentication", ""),
            "permit_root_login": said.get("permitrootlogin", ""), "authorized_keys": said.get("authorizedkeysfile", ""),
            "user_authorities": said.get("trustedusercakeys", "").replace("none", ""),
        },
    )  # fmt: skip
    passwords = "yes" in {said.get("passwordauthentication"), said.get("kbdinteractiveauthentication")}
    root = said.get("permitrootlogin", "")
    if passwords:
        sheet.finding(
            "password-authentication", Severity.MEDIUM, "sshd admits by password",
            "a password can be guessed, and says nothing of who has it",
            "PasswordAuthentication no and KbdInteractiveAuthentication no in sshd_config", subject=sshd,
        )  # fmt: skip
    if root in {"yes", "without-password", "prohibit-password"}:
        by_password = root == "yes" and passwords
        sheet.finding(
            "root-login", Severity.HIGH if by_password else Severity.LOW,
            f"sshd admits root{' by password' if by_password else ' by key'}",
            "logs then show root, and not who it was", "PermitRootLogin no, or forced-commands-only", subject=sshd,
        )  # fmt: skip
    if said.get("permitemptypasswords") == "yes":
        sheet.finding("empty-passwords", Severity.CRITICAL, "sshd admits accounts without a password",
                      "whoever names such an account is in", "PermitEmptyPasswords no", subject=sshd)  # fmt: skip
    if said.get("pubkeyauthentication") != "no" and said.get("authorizedkeyscommand", "none") != "none":
        sheet.finding(
            "keys-by-command",
            Severity.INFO,
            "sshd asks a program which keys to trust",
            "what the program answers is not seen here",
            "read the source that it asks",
            subject=sshd,
        )
    old = sorted({word for key, fits in _OLD.items() for word in fits.findall(said.get(key, ""))})
    if old:
        sheet.finding(
            "legacy-algorithms",
            Severity.LOW,
            f"sshd offers {', '.join(old)[:120]}",
            "they are below what OpenSSH offers by itself",
            "remove them from sshd_config",
            subject=sshd,
        )


# Who gets in


def _authorities(sheet: SshSheet, context: Context) -> None:
    accounts = [account for account in parse_accounts(context.passwd) if account.has_shell][:_MOST_ACCOUNTS]
    for number, public, comment in _keys(sheet):
        node = record_public(sheet, public, number, comment=comment, cert_authority=True)
        for account in accounts:
            if context.by_file and not context.by_program and account.login not in context.principals:
                continue
            said = context.principals.get(account.login)
            names = ", ".join(_lines(said)[:5]) if said is not None else account.login
            names = "names that a program gives" if context.by_program and said is None else names
            sheet.edge(
                node,
                Relation.SECRET_OF,
                sheet.account(account.login),
                "TrustedUserCAKeys",
                line=number,
                conditions=[f"by a certificate it signed for {names}"],
                cut=f"remove line {number} of {sheet.file.path}",
            )


def _lines(data: bytes) -> list[str]:
    lines = (line.strip() for line in decode(data).splitlines()[:MAX_LINES])
    return [clean(line.split()[-1], 100) for line in lines if line and not line.startswith("#")]


def _principals(sheet: SshSheet, account: str) -> None:
    for principal in _lines(sheet.file.data)[:_MOST_HOSTS]:
        of = sheet.name("host", sheet.file.host, "ssh-principal", principal)
        sheet.identity(of, IdentityKind.GROUP, f"SSH principal {principal}")
        sheet.edge(of, Relation.ASSUME, sheet.account(account), "AuthorizedPrincipalsFile",
                   conditions=["by a certificate of a trusted authority"])  # fmt: skip


def _revoked(sheet: SshSheet) -> None:
    if sheet.file.data.startswith(b"SSHKRL\n\0"):
        sheet.skip("not-supported", "a binary revocation list")
        return
    for number, public, comment in _keys(sheet):
        record_public(sheet, public, number, comment=comment, revoked=True)


def _known(sheet: SshSheet, login: str) -> None:
    seen = 0
    for line in decode(sheet.file.data).splitlines()[:MAX_LINES]:
        words = line.split()
        words = words[1:] if words and words[0].startswith("@") else words
        if len(words) < 3 or words[0].startswith(("#", "|")) or not is_ssh_type(words[1]) or seen >= _MOST_HOSTS:
            continue
        for host in words[0].split(",")[:5]:
            seen += 1
            of = sheet.name("ssh", host, "host", host)
            sheet.resource(of, "host", host)
            if login:
                sheet.edge(sheet.account(login), Relation.CAN_REACH, of, "known_hosts: it has been there",
                           conditions=["with a key or password that the host takes"])  # fmt: skip


def _shared(sheet: SshSheet, public: PublicPart, accounts: Sequence[str]) -> None:
    root = "root" in accounts
    sheet.finding(
        "shared-key", Severity.HIGH if root else Severity.MEDIUM,
        f"one {public.algorithm} key opens {len(accounts)} accounts: {', '.join(accounts)[:100]}",
        f"whoever has {public.ssh_fingerprint} is all of them, and the log cannot tell for what",
        "make one key for each, or sign certificates for a task: `remit target install`",
        subject=credential_name(public.fingerprint),
    )  # fmt: skip


def trusted(items: Iterable[Item]) -> dict[str, tuple[PublicPart, set[str], str]]:
    """SSH fingerprint → the key, the accounts that it opens, and a file that says so."""
    found: dict[str, tuple[PublicPart, set[str], str]] = {}
    for item in items:
        for line in decode(item.data).splitlines()[:MAX_LINES]:
            line = line.strip()
            parsed = split_authorized(line) if line and not line.startswith("#") else None
            if parsed is None:
                continue
            try:
                public = read_ssh_line(parsed[1])
            except Malformed:
                continue
            known = found.setdefault(public.ssh_fingerprint, (public, set(), item.path))
            if item.account:
                known[1].add(item.account)
    return found


# Use

_ACCEPTED = re.compile(
    r"^(?P<when>.{0,200}?)\bAccepted (?P<method>[a-z/-]{1,60}) for (?P<user>.{1,200}?)"
    r" from (?P<address>[0-9A-Za-z.:%_-]{1,64})"
    r" port \d+(?: ssh2)?(?:: (?P<kind>[\w@.-]{1,60}) (?P<key>SHA256:[A-Za-z0-9+/]{43})"
    r"(?: ID (?P<id>.{0,200}?) \(serial \d+\) CA [\w@.-]{1,60} (?P<ca>SHA256:[A-Za-z0-9+/]{43}))?)?"
)
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
_SYSLOG = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d)")
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1
    )
}


def uses(logs: Sequence[tuple[str, bytes]], now: datetime, zone: str) -> list[Used]:
    """What the log's lines of admission say, for each account and key; at most 20,000 of them."""
    found: dict[tuple[str, str, str], Used] = {}
    for path, data in logs:
        for line in decode(data).splitlines():
            said = _ACCEPTED.match(line[:2000])
            if said is None:
                continue
            key = clean(said["user"], 100), said["key"] or "", said["method"]
            if key not in found and len(found) >= _MOST_USES:
                continue
            known, when = found.get(key), moment(said["when"], now, zone)
            seen = known.addresses if known else ()
            found[key] = Used(
                account=key[0], method=said["method"], ssh_fingerprint=key[1], authority=said["ca"] or "",
                key_id=clean(said["id"] or "", 100), times=(known.times if known else 0) + 1,
                last=max(filter(None, (when, known.last if known else None)), default=None),
                addresses=seen if said["address"] in seen or len(seen) >= 20 else (*seen, said["address"]), path=path,
            )  # fmt: skip
    return list(found.values())


def moment(text: str, now: datetime, zone: str) -> datetime | None:
    """The time at the head of a line: with a year, or of the last twelve months in the host's `zone`."""
    offset = timedelta()
    if re.fullmatch(r"[+-]\d{4}", zone):
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:])) * (-1 if zone[0] == "-" else 1)
    here = timezone(offset) if abs(offset) < timedelta(hours=24) else UTC
    try:
        if found := _ISO.search(text):
            when = datetime.fromisoformat(found.group(0))
            return (when if when.tzinfo else when.replace(tzinfo=here)).astimezone(UTC)
        if (short := _SYSLOG.search(text)) and short.group(1) in _MONTHS:
            day, hour, minute, second = (int(part) for part in short.groups()[1:])
            when = datetime(now.year, _MONTHS[short.group(1)], day, hour, minute, second, tzinfo=here).astimezone(UTC)
            return when if when <= now + timedelta(days=1) else when.replace(year=now.year - 1)
    except ValueError:
        return None
    return None


def _use(sheet: SshSheet, used: Used, public: PublicPart | None, trusts: Sequence[str]) -> None:
    account = _account(sheet, used)
    if not used.ssh_fingerprint:
        if used.method in {"password", "keyboard-interactive/pam"}:
            sheet.finding(
                "password-login", Severity.HIGH if used.account == "root" else Severity.LOW,
                f"{clean(used.account, 60)} logged in by password {used.times} times",
                f"from {', '.join(used.addresses)[:200]}", "give who does that a key for the time of a task",
                subject=account,
            )  # fmt: skip
        return
    if public is not None:
        sheet.credential(
            public.fingerprint, CredentialKind.SSH_KEY, f"{public.algorithm} key {used.ssh_fingerprint}",
            identity=account, last_used=used.last,
            attributes={
                "ssh_fingerprint": used.ssh_fingerprint, "uses": used.times, "used_from": ", ".join(used.addresses),
                "algorithm": public.algorithm, "opens_by": "authorized_keys",
            },
        )  # fmt: skip
    if used.authority:
        return
    if public is None or used.account not in trusts:
        sheet.finding(
            "used-key-untrusted",
            Severity.MEDIUM,
            f"a key logged in as {clean(used.account, 60)} that no file trusts now",
            f"{used.ssh_fingerprint}, {used.times} times from {', '.join(used.addresses)[:200]}: it was taken "
            "away since, or a program or Match block trusts it",
            "ask who used it, and see AuthorizedKeysCommand and Match blocks",
            subject=account,
        )


def _account(sheet: SshSheet, used: Used) -> Name:
    of = sheet.name("host", sheet.file.host, "unix-account", used.account)
    attributes = {"host": sheet.file.host, "last_used": rfc3339(used.last) if used.last else ""}
    return sheet.identity(of, IdentityKind.UNIX_ACCOUNT, used.account, attributes=attributes)
