"""Where a PostgreSQL server listens and as whom we come: URLs without passwords, password files, libpq variables."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from remit.kernel.errors import Misconfigured, Rejected

SSL_MODES = ("disable", "require", "verify-ca", "verify-full")
"""`require` encrypts without checking who answers; it is never chosen for you."""

_MAX_URL_CHARACTERS = 2048
_MAX_PASSFILE_BYTES = 1 << 20
_ENVIRONMENT = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "application_name": "PGAPPNAME",
    "options": "PGOPTIONS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One database of one server, and the user that connects. Never holds a password."""

    host: str
    """A host name, an address, or the absolute directory of a Unix socket."""
    port: int = 5432
    user: str
    database: str
    ssl_mode: str = ""
    """One of `SSL_MODES`; empty means the strict default of `effective_ssl_mode`."""
    ssl_root: str = ""
    """A file of CA certificates; empty means those of the machine."""

    def __post_init__(self) -> None:
        for text in (self.host, self.user, self.database, self.ssl_root):
            if "\x00" in text or len(text) > 1024:
                raise Rejected("access.target.address", "an address holds a NUL or is longer than 1024 characters")
        if not self.host or not self.user or not self.database:
            raise Rejected("access.target.address", "an address needs a host, a user and a database")
        if not 1 <= self.port <= 65535:
            raise Rejected("access.target.address", f"the port `{self.port}` is not between 1 and 65535")
        if self.ssl_mode and self.ssl_mode not in SSL_MODES:
            raise Misconfigured(
                "access.target.sslmode",
                f"`{self.ssl_mode}` is no sslmode that Remit offers",
                next_step=f"use one of: {', '.join(SSL_MODES)}",
            )

    @property
    def is_local_socket(self) -> bool:
        """Whether `host` is the directory of a Unix socket."""
        return self.host.startswith("/")

    @property
    def effective_ssl_mode(self) -> str:
        """`ssl_mode`, else `disable` on a Unix socket or the loopback interface and `verify-full` everywhere else."""
        if self.is_local_socket:
            return "disable"
        return self.ssl_mode or ("disable" if _is_loopback(self.host) else "verify-full")

    @property
    def socket_path(self) -> str:
        """The path of the Unix socket; call it only when `is_local_socket`."""
        return f"{self.host}/.s.PGSQL.{self.port}"

    def settings(self) -> dict[str, str]:
        """How libpq names it, without a password: `host`, `port`, `dbname`, `user`, `sslmode`, `sslrootcert`."""
        settings = {"host": self.host, "port": str(self.port), "dbname": self.database, "user": self.user}
        if not self.is_local_socket:
            settings["sslmode"] = self.effective_ssl_mode
        if self.ssl_root:
            settings["sslrootcert"] = self.ssl_root
        return settings

    def __str__(self) -> str:
        host = quote(self.host, safe="") if self.is_local_socket else self.host
        host = f"[{host}]" if ":" in host else host
        return f"postgres://{quote(self.user, safe='')}@{host}:{self.port}/{quote(self.database, safe='')}"


def parse_url(url: str) -> Address:
    """Read `postgres://USER@HOST[:PORT]/DATABASE[?sslmode=…&sslrootcert=…]`.

    A socket directory is percent-encoded in the place of HOST, or comes as `?host=/DIR`.
    A password in it is refused (`access.target.password_in_url`): it would rest in shell histories and process lists.
    Raises `Rejected` (`access.target.url`) for anything else that is not understood, unknown parameters included.
    """
    if len(url) > _MAX_URL_CHARACTERS:
        raise _bad_url("it is longer than 2048 characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise _bad_url("it cannot be taken apart") from None
    parameters = dict(query)
    if parts.password is not None or {"password", "passfile"} & parameters.keys():
        raise Rejected(
            "access.target.password_in_url",
            "a password in a URL rests in shell histories and process lists",
            next_step="leave it out and give it by --password-stdin or PGPASSFILE; change the one you typed",
        )
    if parts.scheme not in ("postgres", "postgresql"):
        raise _bad_url("it does not begin with `postgres://`")
    if unknown := sorted(parameters.keys() - {"sslmode", "sslrootcert", "host"}):
        raise _bad_url(f"it has the unknown parameter `{unknown[0][:64]}`")
    if len(parameters) != len(query):
        raise _bad_url("a parameter comes twice")
    host = parameters.get("host") or _host(parts.netloc)
    if not host or not parts.username:
        raise _bad_url("it names no host or no user")
    return Address(
        host=host,
        port=port if port is not None else 5432,
        user=unquote(parts.username),
        database=unquote(parts.path.removeprefix("/")) or unquote(parts.username),
        ssl_mode=parameters.get("sslmode", ""),
        ssl_root=parameters.get("sslrootcert", ""),
    )


def environment(settings: Mapping[str, str], secret: str) -> dict[str, str]:
    """The libpq variables (`PGHOST`, …, `PGPASSWORD`) that say what `settings` and `secret` say."""
    variables = {_ENVIRONMENT[key]: value for key, value in settings.items() if key in _ENVIRONMENT}
    return variables | {"PGPASSWORD": secret}


def password_from_file(path: Path, address: Address) -> str | None:
    """The password that a `.pgpass` file holds for `address`, or `None` when no line matches.

    Raises `Misconfigured` (`access.target.passfile_open`) when others can read the file, as libpq ignores it then,
    and (`access.target.passfile`) when it cannot be read.

    Spec: PostgreSQL documentation, "The Password File".
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            text = file.read(_MAX_PASSFILE_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError):
        raise Misconfigured("access.target.passfile", f"the password file `{path}` cannot be read") from None
    if not stat.S_ISREG(mode) or mode & 0o077 or len(text) > _MAX_PASSFILE_BYTES:
        raise Misconfigured(
            "access.target.passfile_open",
            f"the password file `{path}` is no private regular file",
            next_step=f"chmod 600 {path}",
        )
    host = "localhost" if address.is_local_socket else address.host
    wanted = ({host, address.host}, {str(address.port)}, {address.database}, {address.user})
    for line in text.splitlines():
        fields = _passfile_fields(line)
        if len(fields) == 5 and all(f == "*" or f in w for f, w in zip(fields[:4], wanted, strict=True)):
            return fields[4]
    return None


def _passfile_fields(line: str) -> list[str]:
    if line.startswith("#"):
        return []
    return [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:^|:)((?:\\.|[^:\\])*)", line)]


def _host(netloc: str) -> str:
    # `urlsplit().hostname` lower-cases, and a socket directory is case-sensitive.
    host = netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return unquote(host.partition(":")[0])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bad_url(why: str) -> Rejected:
    return Rejected(
        "access.target.url",
        f"the URL of the server is not understood: {why}",
        next_step="write it as postgres://USER@HOST:PORT/DATABASE",
    )
