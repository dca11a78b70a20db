"""What a target of the system `x509` is told, and what its broker says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured

PROGRAMS = Path("/etc/remit/reload.d")
"""What `reload=program:NAME` may run lies here, and root put it there: whoever adds targets cannot choose commands."""
ADMIN_UNIT = "remit"
"""The organisational unit by which the broker itself logs in; no role may have it."""

MANIFEST = BrokerManifest(
    id="x509",
    title="X.509 client certificates at nginx and PostgreSQL 14 and later",
    needs=(
        "install -d -m 755 -o remit /var/lib/remit/x509/web    # the folder of the list: Remit's alone to write",
        "# nginx, in the server block; nothing else is needed where a systemd path unit reloads it (reload=watch):",
        "ssl_client_certificate FOLDER/clients.pem; ssl_crl FOLDER/clients.crl; ssl_verify_client on; "
        "ssl_session_tickets off; ssl_session_cache off; worker_shutdown_timeout 10s; keepalive_time 5m;",
        'location /reports/ { if ($ssl_client_s_dn !~ "(^|,)OU=reader(,|$)") { return 403; } … }',
        "-- PostgreSQL, instead: ssl_ca_file and ssl_crl_file of the folder, a map in pg_ident.conf, and",
        "CREATE ROLE remit_admin LOGIN; GRANT pg_read_all_stats, pg_signal_backend TO remit_admin; "
        "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO remit_admin",
    ),
    fail_safe=False,
    native_expiry=False,
    counts_sessions=False,
    hazards=(
        "a certificate names the end of its grant; renewals do not move it, so a dead Remit leaves a lease until then",
        "the end of a certificate stops new handshakes and no live connection: limit them by `keepalive_time` "
        "(nginx: an hour by default); PostgreSQL has no such limit",
        "the server refuses every client once its list has run out: Remit writes it 90 days ahead and again after 30",
        "a revocation reloads nginx: idle connections of all its clients are closed, and every other one when "
        "`worker_shutdown_timeout` is over; without it a long download holds up the proof",
        "TLS sessions can be resumed past a revocation where tickets or a cache outlive the reload "
        "(`ssl_session_ticket_key`, `ssl_session_cache shared`): each revocation tries it; switch both off",
        "who may write the folder can let revoked certificates in again, until Remit's next look puts them back",
    ),
)

_OPTIONS = frozenset({"server", "folder", "ca", "pid_file", "reload"})
_PATH = re.compile(r"/[A-Za-z0-9_./-]{1,180}")
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_ASKED = re.compile(r"/[A-Za-z0-9_./~%?=&-]{0,180}")
_URI = re.compile(r"[a-z][a-z0-9+.-]{1,20}:[A-Za-z0-9_./:~-]{1,180}")
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_PROGRAM = re.compile(r"program:([a-z0-9][a-z0-9_-]{0,62})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a certificate of a role says, and where the server admits it."""

    unit: str
    path: str = "/"
    uri: str = ""
    login: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options, decoded: whatever is not known is an error."""

    speaks: str
    """`http` or `postgresql`."""
    folder: Path
    ca: str
    pid_file: Path
    reload: str
    roles: Mapping[str, Role] = field(default_factory=dict)
    """By what the target maps them to."""


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured`: `access.target.option`, `access.x509.role`."""
    options = target.options
    if unknown := sorted(options.keys() - _OPTIONS):
        raise _bad_option(unknown[0], f"use one of: {', '.join(sorted(_OPTIONS))}")
    server = options.get("server", "nginx")
    if server not in ("nginx", "postgresql"):
        raise _bad_option("server", "use `nginx` or `postgresql`: with others a revocation cannot be seen through yet")
    for key in ("folder", "ca", "pid_file"):
        if (key in options or key == "folder") and not _is_plain(options.get(key, "")):
            raise _bad_option(key, f"give --option {key}=/PATH: absolute, of letters, digits and `_./-`")
    if server == "postgresql" and options.keys() & {"pid_file", "reload"}:
        raise _bad_option("reload", "PostgreSQL is told to reload by SQL")
    roles = {text: read_role(text) for text in target.roles.values()}
    if bad := [text for text, role in roles.items() if bool(role.login) is not (server == "postgresql")]:
        raise _bad_role(bad[0], "a role has login=USER at PostgreSQL, and there alone")
    if len({role.unit for role in roles.values()}) != len(roles):
        raise _bad_role("", "two roles have the same unit")
    return Settings(
        speaks="postgresql" if server == "postgresql" else "http",
        folder=Path(options["folder"]),
        ca=options.get("ca", ""),
        pid_file=Path(options.get("pid_file", "/run/nginx.pid")),
        reload=_reload(options.get("reload", "signal")),
        roles=roles,
    )


def read_role(text: str) -> Role:
    """`UNIT [path=/PATH] [uri=URI] [login=USER]`: the subject's OU, and what the server lets it ask for."""
    unit, *rest = text.split() or [""]
    if not _UNIT.fullmatch(unit) or unit == ADMIN_UNIT:
        raise _bad_role(unit, f"a role begins with the organisational unit, which is not `{ADMIN_UNIT}`")
    found: dict[str, str] = {}
    for word in rest:
        key, _, value = word.partition("=")
        pattern = {"path": _ASKED, "uri": _URI, "login": _LOGIN}.get(key)
        if pattern is None or not pattern.fullmatch(value) or key in found:
            raise _bad_role(word, "use: path=/PATH, uri=URI, login=USER")
        found[key] = value
    if found.get("uri", "").startswith("spiffe:"):
        raise _bad_role(found["uri"], "SPIFFE IDs are given by the authority of the trust domain alone")
    return Role(unit=unit, **found)


def _reload(text: str) -> str:
    if text in ("signal", "watch"):
        return text
    if match := _PROGRAM.fullmatch(text):
        return str(PROGRAMS / match[1])
    raise _bad_option("reload", f"use `signal`, `watch`, or `program:NAME` for {PROGRAMS}/NAME")


def _is_plain(path: str) -> bool:
    return bool(_PATH.fullmatch(path)) and ".." not in path.split("/")


def _bad_option(key: str, next_step: str) -> Misconfigured:
    return Misconfigured(
        "access.target.option", f"the option `{key[:64]}` of the target is not understood", next_step=next_step
    )


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.x509.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
