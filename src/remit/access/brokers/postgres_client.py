"""How PostgreSQL's own clients find a lease, and how the URL of a target reads.

Clients find it by `PGPASSFILE` and `PGSERVICEFILE` (`psql service=TARGET`), and by `PG*` where it is the only one.

Spec: libpq "The Password File", "The Connection Service File", "Environment Variables".
"""

from __future__ import annotations

from remit.access.brokers.location import Location
from remit.access.brokers.presentation import Credential, Presentation, url_of
from remit.providers.postgres.address import parse_url

_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}
_STALE = tuple(
    "PGPASSWORD PGHOSTADDR PGSERVICE PGPASSFILE PGSERVICEFILE PGHOST PGPORT PGDATABASE PGUSER".split()  # noqa: SIM905
)


def locate(url: str) -> Location:
    """Read the URL of a server; `Rejected` (`access.target.url`, `access.target.password_in_url`)."""
    address = parse_url(url)
    options = {"sslmode": address.ssl_mode, "sslrootcert": address.ssl_root}
    return Location(
        host=address.host,
        port=address.port,
        user=address.user,
        database=address.database,
        options={key: value for key, value in options.items() if value},
    )


def present(credential: Credential) -> Presentation:
    """A password file, a service file, and what points at them."""
    settings = credential.settings
    query = {key: value for key, value in settings.items() if key not in ("host", "port", "user", "dbname")}
    return Presentation(
        variables={name: settings[key] for key, name in _VARIABLES.items() if key in settings},
        secrets={"PGPASSWORD": credential.secret},
        files={"pgpass": _passwords(credential), "pg_service.conf": _services(credential)},
        pointers={"PGPASSFILE": "pgpass", "PGSERVICEFILE": "pg_service.conf"},
        stale=_STALE,
        url=url_of("postgresql", credential, path=settings.get("dbname", ""), query=query),
    )


def _passwords(credential: Credential) -> str:
    """One line for the host as it is given, one more for a Unix socket, which libpq may look up as `localhost`."""
    settings = credential.settings
    host = settings.get("host", "*")
    hosts = [host, "localhost"] if host.startswith("/") else [host]
    port, user = settings.get("port", "*"), settings.get("user", "*")
    lines = (":".join(_escaped(part) for part in (each, port, "*", user, credential.secret)) for each in hosts)
    return "".join(f"{line}\n" for line in lines)


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace(":", "\\:")


def _services(credential: Credential) -> str:
    """`TARGET`, which the first credential on a target has, and `TARGET-ROLE`."""
    lines = [f"{key}={value}" for key, value in credential.settings.items() if "\n" not in value]
    names = (credential.target, f"{credential.target}-{credential.role}")
    return "".join("\n".join((f"[{name}]", *lines, "")) for name in names)
