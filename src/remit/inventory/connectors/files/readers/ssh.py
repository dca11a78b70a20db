"""SSH: private keys (OpenSSH, PEM, PuTTY), public keys, `authorized_keys`, host keys.

Spec: sshd(8), "AUTHORIZED_KEYS FILE FORMAT"; ssh-keygen(1); PuTTY documentation, appendix C.
"""

from __future__ import annotations

import posixpath
import re
from datetime import UTC, datetime

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.formats import Malformed, decode
from remit.inventory.connectors.files.keys import (
    PrivatePart,
    PublicPart,
    is_ssh_type,
    pem_blocks,
    read_private_pem,
    read_ssh_line,
)
from remit.inventory.connectors.files.pem import record_private, weak_key
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.model import Attribute, CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name, credential_name

MAX_LINES = 10_000


def read_private(sheet: Sheet) -> None:
    """Record a private key; in `.ssh` a file that is none is passed over in silence."""
    if sheet.file.data.startswith(b"PuTTY-User-Key-File-"):
        read_ppk(sheet)
        return
    for block in pem_blocks(sheet.file.data):
        private = read_private_pem(block)
        if private is not None:
            node = record_private(sheet, private, raw=block.text, line=block.line, ssh=True)
            if _is_host_key(sheet):
                host_identity(sheet, node)
            return
    if re.fullmatch(r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?", sheet.file.name):
        raise Malformed("no key")


def read_ppk(sheet: Sheet) -> None:
    """Record a PuTTY key: its public half is clear."""
    text = decode(sheet.file.data)
    public = re.search(r"^Public-Lines: (\d{1,3})\r?\n((?:[A-Za-z0-9+/=]+\r?\n)+)", text, re.MULTILINE)
    cipher = re.search(r"^Encryption: (\S+)", text, re.MULTILINE)
    comment = re.search(r"^Comment: ([^\r\n]{0,200})", text, re.MULTILINE)
    if not public or not cipher:
        raise Malformed("no PuTTY key")
    lines = public.group(2).split()[: int(public.group(1))]
    private = PrivatePart(
        public=read_ssh_line("".join(lines)),
        encrypted=cipher.group(1) != "none",
        format="ppk",
        comment=comment.group(1) if comment else "",
    )
    record_private(sheet, private, raw=sheet.file.data, ssh=True)


def read_public(sheet: Sheet) -> None:
    """Record a public key: what somebody else may trust, and the comment that tells whose it is."""
    for number, line in enumerate(decode(sheet.file.data).splitlines()[:100], 1):
        words = line.split()
        if len(words) >= 2 and is_ssh_type(words[0]):
            node = record_public(sheet, read_ssh_line(words[1]), number, comment=" ".join(words[2:]))
            if _is_host_key(sheet):
                host_identity(sheet, node)


def record_public(sheet: Sheet, public: PublicPart, line: int, *, comment: str, **more: Attribute) -> Name:
    """Record the public half of a key, and that it is weak where it is."""
    node = sheet.credential(
        public.fingerprint,
        CredentialKind.SSH_KEY,
        f"{public.algorithm} key {comment or public.ssh_fingerprint}",
        line=line,
        attributes={
            "algorithm": public.algorithm, "bits": public.bits or None, "ssh_fingerprint": public.ssh_fingerprint,
            "comment": comment, **more,
        },
    )  # fmt: skip
    if public.is_weak:
        weak_key(sheet, node, f"{public.algorithm} {public.bits or ''}".strip(), line)
    return node


def _is_host_key(sheet: Sheet) -> bool:
    return sheet.file.name.startswith("ssh_host_")


def host_identity(sheet: Sheet, node: Name) -> None:
    """Record that a key proves the sshd of this host."""
    host = sheet.identity(
        sheet.name("host", sheet.file.host, "service", "sshd"),
        IdentityKind.WORKLOAD,
        "sshd",
        attributes={"service": "sshd"},
    )
    sheet.edge(node, Relation.SECRET_OF, host, "host key")


_OPTIONS = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*+")++')
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?(?:,|$)')


def read_authorized(sheet: Sheet) -> None:
    """Record who may log in to the account: each key opens it, under the conditions of its options."""
    record_logins(sheet, account_of_authorized(sheet))


def record_logins(sheet: Sheet, login: str, *, refused: bool = False, only_forced: bool = False) -> None:
    """Record the lines of an `authorized_keys` file that opens the account `login`.

    `refused` says that sshd lets nobody in to it, `only_forced` only with a forced command.
    """
    account = sheet.account(login)
    for number, line in enumerate(decode(sheet.file.data).splitlines()[:MAX_LINES], 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parsed = split_authorized(line)
        if parsed is None:
            sheet.skip("malformed", f"line {number} is no key")
            continue
        options, key, comment = parsed
        try:
            public = read_ssh_line(key)
        except Malformed:
            sheet.skip("malformed", f"line {number} is no key")
            continue
        opens = not refused and (not only_forced or "command" in options)
        _record_authorized(sheet, login, account, public, options, comment, number, opens=opens)


def account_of_authorized(sheet: Sheet) -> str:
    """The account that the file opens: by the home that it lies in, or by its name under `/etc/ssh`."""
    directory = sheet.file.directory
    if posixpath.basename(directory) == ".ssh":
        home = posixpath.dirname(directory)
        if home in sheet.file.homes:
            return sheet.file.homes[home]
        if re.fullmatch(r".*/(?:home|Users)/[^/]+", home):
            return posixpath.basename(home)
        return sheet.file.account
    return sheet.file.name if directory.endswith("authorized_keys") else sheet.file.account


def split_authorized(line: str) -> tuple[dict[str, str], str, str] | None:
    """Options, base64 key and comment of a line of `authorized_keys`; `None` when it is none."""
    options: dict[str, str] = {}
    if not is_ssh_type(line.split(None, 1)[0]):
        head = _OPTIONS.match(line)
        if head is None:
            return None
        options = {key.lower(): value.replace('\\"', '"') for key, value in _OPTION.findall(head.group(0))}
        line = line[head.end() :]
    words = line.split(None, 2)
    if len(words) < 2 or not is_ssh_type(words[0]):
        return None
    return options, words[1], words[2] if len(words) > 2 else ""


def _record_authorized(
    sheet: Sheet, login: str, account: Name, public: PublicPart, options: dict[str, str], comment: str, line: int,
    *, opens: bool = True,
) -> None:  # fmt: skip
    authority = "cert-authority" in options
    conditions = []
    if "from" in options:
        conditions.append(f"from {options['from']}")
    if "command" in options:
        conditions.append("forced command")
    if authority:
        conditions.append(
            f"by a certificate it signed{' for ' + options['principals'] if 'principals' in options else ''}"
        )
    expires = _expiry(options.get("expiry-time", ""))
    cut = f"remove line {line} of {sheet.file.path}"
    if opens and (expires is None or expires > sheet.now):
        key = credential_name(public.fingerprint)
        sheet.edge(key, Relation.SECRET_OF, account, "authorized_keys", line=line, conditions=conditions, cut=cut)
    node = sheet.credential(
        public.fingerprint,
        CredentialKind.SSH_KEY,
        f"{public.algorithm} key {comment or public.ssh_fingerprint}",
        line=line,
        expires=expires,
        identity=None if authority else account,
        attributes={
            "algorithm": public.algorithm, "bits": public.bits or None, "ssh_fingerprint": public.ssh_fingerprint,
            "comment": comment, "cert_authority": authority, "forced_command": "command" in options,
            "from": options.get("from", ""), "opens_by": "authorized_keys",
        },
    )  # fmt: skip
    if public.is_weak:
        weak_key(sheet, node, f"{public.algorithm} {public.bits or ''}".strip(), line)
    if not expires and "from" not in options and not authority:
        sheet.finding(
            "standing-ssh-access",
            Severity.MEDIUM if login == "root" else Severity.LOW,
            f"{clean(comment, 60) or public.ssh_fingerprint} may log in as {login} from anywhere, for ever",
            "the line has neither `from=` nor `expiry-time=`",
            f'sign keys for a task instead, or put `from="…",expiry-time="…"` before line {line}',
            subject=node,
            line=line,
        )


def _expiry(text: str) -> datetime | None:
    for form in ("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d"):
        try:
            return datetime.strptime(text.rstrip("Z"), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


PRIVATE = Reader(
    id="ssh-private-key",
    reads="SSH private keys: OpenSSH, PEM and PuTTY",
    patterns=(
        Pattern(regex=r"id_[\w@-]+|ssh_host_\w+_key|(?:identity|deploy_?key|[\w.-]+[_-](?:rsa|ed25519|ecdsa|dsa))"),
        Pattern(suffixes=(".ppk",)),
        Pattern(under=(".ssh",)),
    ),
    read=read_private,
)
PUBLIC = Reader(
    id="ssh-public-key",
    reads="SSH public keys",
    patterns=(
        Pattern(suffixes=(".pub",), under=(".ssh",)),
        Pattern(regex=r"(?:id|ssh_host)_[\w.@-]+\.pub|.*[_-](?:rsa|ed25519|ecdsa|dsa)\.pub"),
    ),
    read=read_public,
)
AUTHORIZED = Reader(
    id="ssh-authorized-keys",
    reads="authorized_keys: which keys open which account",
    patterns=(
        Pattern(names=("authorized_keys", "authorized_keys2")),
        Pattern(under=("etc/ssh/authorized_keys", "etc/ssh/authorized_keys.d")),
    ),
    read=read_authorized,
)
