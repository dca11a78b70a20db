"""What a target of the system `ssh` is told, and what its broker says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from shlex import quote

from remit.access.brokers.options import bad_option, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured
from remit.providers.ssh.client import Host

HELPER = "/usr/local/libexec/remit-ssh-target"
STATE = "/var/lib/remit-ssh"

MANIFEST = BrokerManifest(
    id="ssh",
    title="OpenSSH 8.5 and later",
    needs=(
        "# once, as root on each host: what `remit target install NAME --print` shows",
        "# the administrator's account; its key can do nothing but ask the helper:",
        f"echo 'restrict,command=\"{HELPER} admin\" ssh-ed25519 AAAA…' >> ~root/.ssh/authorized_keys",
    ),
    fail_safe=True,
    native_expiry=True,
    hazards=(
        "the helper ends sessions of every account, so it runs as root; its administrator's key can admit certificates "
        "of the target's own authority to the accounts that root wrote down, and nothing else",
        "sshd admits nobody, administrators included, while its list of revoked certificates is missing or broken: "
        "never edit it by hand, and leave its folder out of clean-ups",
        "what a session leaves running (nohup, daemons) ends with the session; what it gave to others (at, cron, "
        "systemd --user, another account by sudo) is found only where pam_loginuid or pam_systemd marks it; a task "
        "that kills its keeper and wipes its environment is ended by the reaper's next look, not before the answer",
        "`PerSourcePenalties` (OpenSSH 9.8 and later) counts the refused logins that prove revocations: exempt Remit's "
        "address by `PerSourcePenaltyExemptList`",
        "sshd asks one AuthorizedPrincipalsCommand and reads one TrustedUserCAKeys: those of other authorities must be "
        "moved to a Match block of their own",
        "a login's shell reads its start-up files before the helper: what prints there breaks its answers, and what "
        "waits for a lock (`pyenv init`, after a session that held it was killed) holds up logins and revocations",
        "files that a lease made stay on the host, and belong to the account that its role names",
    ),
)

_OPTIONS = frozenset({"host_key", "host_ca", "hosts", "helper", "state"})
_PUBLIC = re.compile(
    r"(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa|rsa-sha2-512) [A-Za-z0-9+/]{40,180}={0,2}"
)
_PATH = re.compile(r"/[A-Za-z0-9_./-]{1,120}")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,120}")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_EXTENSIONS = {"pty": "permit-pty", "port-forwarding": "permit-port-forwarding",
               "agent-forwarding": "permit-agent-forwarding"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a certificate of a role allows."""

    account: str
    extensions: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    command: str = ""
    """Runs in place of what the client asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options, decoded: whatever is not known is an error."""

    hosts: tuple[Host, ...]
    """The first is the one that the target is called after."""
    helper: str
    """The command line of the helper."""
    program: str
    state: str
    roles: Mapping[str, Role] = field(default_factory=dict)
    """By what the target maps them to."""


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured`: `access.target.option`, `access.ssh.role`, `access.ssh.host_unknown`."""
    options = target.options
    require_known(options, _OPTIONS)
    program, state = options.get("helper", HELPER), options.get("state", STATE)
    for key, path in (("helper", program), ("state", state)):
        if not _PATH.fullmatch(path):
            raise bad_option(key, "write an absolute path of letters, digits and `_./-`")
    places = [(target.host, target.port), *(_place(part) for part in options.get("hosts", "").split(",") if part)]
    if bad := [host for host, _ in places if not _NAME.fullmatch(host)]:
        raise bad_option("hosts", f"`{bad[0][:60]}` is no name of a host")
    return Settings(
        hosts=tuple(Host(name=host, port=port, known_hosts=_known(host, port, options)) for host, port in places),
        helper=program if state == STATE else f"{program} --state {state}",
        program=program,
        state=state,
        roles={text: read_role(text) for text in target.roles.values()},
    )


def read_role(text: str) -> Role:
    """`ACCOUNT [pty] [port-forwarding] [agent-forwarding] [source=NETWORK,…] [command=…]`; the command comes last."""
    words, has_command, command = text.partition(" command=")
    account, *rest = words.split() or [""]
    if not _ACCOUNT.fullmatch(account):
        raise _bad_role(account, "a role begins with the account that tasks log in to")
    extensions, sources = [], []
    for word in rest:
        if word in _EXTENSIONS:
            extensions.append(_EXTENSIONS[word])
        elif word.startswith("source="):
            sources += [_network(word, part) for part in word.removeprefix("source=").split(",")]
        else:
            raise _bad_role(word, f"use: {', '.join(_EXTENSIONS)}, source=NETWORK,…, command=…")
    if has_command and not command.strip():
        raise _bad_role("command=", "write the command behind it, to the end of the role")
    return Role(account=account, extensions=tuple(extensions), sources=tuple(sources), command=command.strip())


def forced_command(settings: Settings, principal: str, role: Role) -> str:
    """What sshd runs for every session, command, scp and sftp of a lease: the helper, which runs what was asked."""
    return f"{settings.helper} session {principal}" + (f" {quote(role.command)}" if role.command else "")


def _network(word: str, text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise _bad_role(word, f"`{text[:40]}` is no network as 10.0.0.0/8") from None


def _known(host: str, port: int, options: Mapping[str, str]) -> str:
    key, authority = options.get("host_key", ""), options.get("host_ca", "")
    for name, text in (("host_key", key), ("host_ca", authority)):
        if text and not _PUBLIC.fullmatch(text):
            raise bad_option(name, "write the public key as `ssh-ed25519 AAAA…`, without the remark behind it")
    if not (key or authority) or (key and options.get("hosts")):
        raise Misconfigured(
            "access.ssh.host_unknown",
            "nothing says how the host is known to be that host",
            next_step="give --option host_key='ssh-ed25519 AAAA…' (/etc/ssh/ssh_host_ed25519_key.pub on the host), or "
            "--option host_ca='…', which groups of hosts need",
        )
    name = host if port == 22 else f"[{host}]:{port}"
    lines = [f"{name} {key}"] if key else []
    # A host's certificate names it without a port.
    lines += [f"@cert-authority {name}{'' if port == 22 else ',' + host} {authority}"] if authority else []
    return "".join(f"{line}\n" for line in lines)


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        return text.strip(), 22
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise bad_option("hosts", "write HOST:PORT,HOST:PORT")
    return host.strip("[]"), int(port)


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.ssh.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
