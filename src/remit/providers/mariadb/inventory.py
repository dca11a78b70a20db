"""What a MariaDB server's grant tables and sessions tell, page by page. No stored hash leaves the server.

Spec: MariaDB "mysql.global_priv Table", "mysql.db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv",
"roles_mapping", "mysql.proc", "mysql.event"; Performance Schema "session_connect_attrs".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.mariadb.client import Address, Session, connect, translated

PAGE: Final = 1000
MOST: Final = 1_000_000
"""Rows of one table that are read."""
PRIVILEGES: Final = (
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "RELOAD", "SHUTDOWN", "PROCESS", "FILE", "GRANT OPTION",
    "REFERENCES", "INDEX", "ALTER", "SHOW DATABASES", "SUPER", "CREATE TEMPORARY TABLES", "LOCK TABLES", "EXECUTE",
    "REPLICATION SLAVE", "BINLOG MONITOR", "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "CREATE USER",
    "EVENT", "TRIGGER", "CREATE TABLESPACE", "DELETE HISTORY", "SET USER", "FEDERATED ADMIN", "CONNECTION ADMIN",
    "READ_ONLY ADMIN", "REPLICATION SLAVE ADMIN", "REPLICATION MASTER ADMIN", "BINLOG ADMIN", "BINLOG REPLAY",
    "SLAVE MONITOR",
)  # fmt: skip
"""Global privileges in the order of their bits in `global_priv.access`."""
_NOT_PERMITTED: Final = frozenset({1044, 1142, 1143, 1227, 1146, 1049})


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The server itself."""

    instance: str
    version: str
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way in that an account has."""

    plugin: str
    stored: str
    """`none` (an empty password), `invalid`, `old` (before 4.1), `set`, or `unknown` where it may not be read."""
    digest: str = ""
    """SHA-256 of what is stored, made by the server; empty where nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A login or a role."""

    user: str
    host: str
    role: bool
    methods: tuple[Method, ...] = ()
    locked: bool | None = None
    expired: bool = False
    changed: datetime | None = None
    lifetime: int | None = None
    """Days; `None` follows the server's default, 0 or less is never."""
    tls: str = ""
    """`ANY`, `X509`, `SPECIFIED`, or empty."""
    privileges: tuple[str, ...] = ()
    default_role: str = ""
    most_connections: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A right on a database, table, column or routine."""

    user: str
    host: str
    """Empty for a role."""
    level: str
    """`database`, `table`, `column`, `procedure`, `function`, `package` or `package-body`."""
    database: str
    """A pattern of LIKE on the level `database`, and a plain name on the others."""
    thing: str
    column: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The right to become somebody else at login."""

    user: str
    host: str
    proxied_user: str
    proxied_host: str
    grantable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Membership of a role."""

    user: str
    host: str
    role: str
    admin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A routine, view, event or trigger that runs in its definer's name."""

    kind: str
    schema: str
    name: str
    definer: str
    """`user@host`, or a role's name alone."""
    table: str = ""
    """Of a trigger."""
    orphan: bool = False
    """True where no account is the definer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A connection."""

    user: str
    address: str
    program: str
    number: int = 0
    """Of the connection, growing since the server began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A table that may not be read."""

    what: str
    why: str


Row: TypeAlias = Account | Grant | Proxy | Mapping | Code


class Reader:
    """One connection that only reads; for one thread."""

    def __init__(self, address: Address, secret: str) -> None:
        self._address = address
        with translated(address):
            try:
                self._connection = connect(address, secret)
            except Exception as error:
                self._judge(error)
                raise
        self._session = Session(self._connection)

    def close(self) -> None:
        from pymysql import err

        with suppress(err.Error, OSError):
            self._connection.close()

    def about(self) -> About:
        """Which server it is; the same for every connection to it, also after a restart."""
        rows = {str(key).lower(): str(value) for key, value in self._rows(_SETTINGS)}
        unique = rows.get("server_uid") or "|".join(rows.get(key, "") for key in ("hostname", "port", "datadir"))
        instance = "srv-" + hashlib.sha256(unique.encode()).hexdigest()[:16]
        kept = tuple(sorted((key, value) for key, value in rows.items() if key in _KEPT))
        return About(instance=instance, version=rows.get("version", ""), settings=kept)

    def accounts(self) -> Iterator[Account | Hidden]:
        """Logins and roles, those of one name together; without locks and kinds of hash where those may not be read."""
        hidden = None
        for row in self._pages(_ACCOUNTS, ("User", "Host")):
            if isinstance(row, Hidden):
                hidden = row
            else:
                yield _account(row)
        if hidden is not None:
            yield hidden
            for row in self._pages(_ACCOUNTS_PLAIN, ("User", "Host")):
                yield row if isinstance(row, Hidden) else _plain_account(row)

    def grants(self) -> Iterator[Grant | Hidden]:
        """Rights below the whole server."""
        columns = [*_DATABASE_PRIVILEGES]
        for row in self._pages(
            f"SELECT User, Host, Db, {', '.join(columns)} FROM mysql.db",  # noqa: S608 - constants alone
            ("User", "Host", "Db"),
        ):
            if isinstance(row, Hidden):
                yield row
                continue
            has = tuple(_DATABASE_PRIVILEGES[key] for key, yes in zip(columns, row[3:], strict=True) if yes == "Y")
            yield Grant(user=row[0], host=row[1], level="database", database=row[2], thing="", column="", actions=has)
        for statement, keys, level in _BELOW:
            for row in self._pages(statement, keys):
                if isinstance(row, Hidden):
                    yield row
                    continue
                user, host, database, thing, rest, said = row
                kind = str(rest).lower().replace(" ", "-") if level == "routine" else level
                yield Grant(
                    user=user, host=host, level=kind, database=database, thing=thing,
                    column=rest if level == "column" else "", actions=_set(said),
                )  # fmt: skip

    def proxies(self) -> Iterator[Proxy | Hidden]:
        for row in self._pages(_PROXIES, ("User", "Host", "Proxied_user", "Proxied_host")):
            yield (
                row
                if isinstance(row, Hidden)
                else Proxy(user=row[0], host=row[1], proxied_user=row[2], proxied_host=row[3], grantable=bool(row[4]))
            )

    def mappings(self) -> Iterator[Mapping | Hidden]:
        for row in self._pages(_ROLES, ("User", "Host", "Role")):
            yield (
                row if isinstance(row, Hidden) else Mapping(user=row[0], host=row[1], role=row[2], admin=row[3] == "Y")
            )

    def code(self) -> Iterator[Code | Hidden]:
        """What runs in its definer's name."""
        for statement, keys in _CODE:
            for row in self._pages(statement, keys):
                if isinstance(row, Hidden):
                    yield row
                elif row[3]:
                    yield Code(
                        schema=row[0], name=row[1], kind=str(row[2]).lower(), definer=row[3],
                        table=row[4] if len(row) > 4 else "",
                    )  # fmt: skip

    def sessions(self) -> Iterator[Live | Hidden]:
        """Live connections but ours, with the program's name where the Performance Schema tells it."""
        rights = " ".join(str(row[0]) for row in self._rows("SHOW GRANTS"))
        if "PROCESS" not in rights and "ALL PRIVILEGES ON *.*" not in rights:
            yield Hidden(what="sessions of others", why="PROCESS is missing")
            return
        programs: dict[int, str] = {}
        with suppress(Misconfigured, Rejected):
            programs = {int(one): str(said) for one, said in self._rows(_PROGRAMS)}
        for one, user, address in self._rows(_LIVE):
            host, mark, port = str(address).rpartition(":")
            where = host if mark and port.isdecimal() else str(address)
            yield Live(user=str(user), address=where, program=programs.get(int(one), ""), number=int(one))

    def began(self) -> str:
        """When the server began, as it tells it itself; numbers of connections grow from then on."""
        return str(next(iter(self._rows(_BEGAN)), ("",))[0])

    def _pages(self, statement: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...] | Hidden]:
        """Rows in the order of `keys`, which are the first columns or named after them: a row that goes harms none."""
        from pymysql import err

        after: tuple[Any, ...] = ()
        count = 0
        marks = ", ".join(["%s"] * len(keys))
        where = f"({', '.join(keys)}) > ({marks})"
        filtered = " WHERE " in statement
        while True:
            bound = (" AND " if filtered else " WHERE ") + where if after else ""
            text = statement + bound + f" ORDER BY {', '.join(keys)} LIMIT {PAGE}"
            try:
                rows = self._rows(text, after, strict=False)
            except err.Error as error:
                code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
                if code in _NOT_PERMITTED:
                    yield Hidden(what=_table(statement), why=f"error {code}")
                    return
                with translated(self._address):
                    raise
            yield from rows
            count += len(rows)
            if len(rows) < PAGE:
                return
            if count >= MOST:
                yield Hidden(what=f"rest of {_table(statement)}", why="too-large")
                return
            after = tuple(rows[-1][: len(keys)])

    def _rows(self, statement: str, values: Sequence[object] = (), *, strict: bool = True) -> list[tuple[Any, ...]]:
        if not strict:
            return [_texts(row) for row in self._session.rows(statement, values)]
        with translated(self._address):
            return [_texts(row) for row in self._session.rows(statement, values)]

    def _judge(self, error: Exception) -> None:
        from pymysql import err

        if isinstance(error, err.OperationalError) and error.args and error.args[0] in (1044, 1045, 1698, 4151):
            raise Misconfigured(
                "inventory.mariadb.login",
                f"`{self._address}` refuses `{self._address.user[:80]}` ({error.args[0]})",
                next_step="see the account and its password; `remit connectors mariadb` prints what it needs",
            ) from None


def _texts(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in row)


def _table(statement: str) -> str:
    found = _SOURCE.search(statement)
    return found[1] if found else "a table"


def _set(said: object) -> tuple[str, ...]:
    """A SET of the grant tables, in the words of GRANT."""
    words = [each.strip().upper() for each in str(said or "").split(",") if each.strip()]
    return tuple("GRANT OPTION" if each == "GRANT" else each for each in words)


def _number(said: object) -> int | None:
    try:
        return int(str(said))
    except ValueError:
        return None


def _account(row: Sequence[Any]) -> Account:
    user, host, role, plugin, empty, length, digest, alternatives, lengths, digests = row[:10]
    locked, expired, changed, lifetime, tls, access, default_role, most = row[10:]
    methods = [_method(plugin or "mysql_native_password", empty == 1, _number(length) or 0, str(digest or ""))]
    if alternatives:
        others = zip(_listed(alternatives), _listed(lengths), _listed(digests), strict=False)
        # An empty member stands for the method at the top.
        methods = [_method(a, False, _number(b) or 0, c) if a else methods[0] for a, b, c in others]
    moment = _number(changed) or 0
    bits = _number(access) or 0
    is_role = bool(_number(role))
    return Account(
        user=user,
        host="" if is_role else host,
        role=is_role,
        methods=() if is_role else tuple(methods),
        locked=str(locked) in ("1", "true"),
        expired=bool(changed is not None and moment == 0) or str(expired) in ("1", "true"),
        changed=datetime.fromtimestamp(moment, UTC) if 0 < moment < 1 << 34 else None,
        lifetime=_number(lifetime),
        tls={1: "ANY", 2: "X509", 3: "SPECIFIED"}.get(_number(tls) or 0, ""),
        privileges=tuple(word for bit, word in enumerate(PRIVILEGES) if bits >> bit & 1),
        default_role=str(default_role or ""),
        most_connections=_number(most) or 0,
    )


def _plain_account(row: Sequence[Any]) -> Account:
    user, host, role, plugin, expired, tls, default_role, most, *flags = row
    is_role = role == "Y"
    has = tuple(word for word, yes in zip(_USER_PRIVILEGES.values(), flags, strict=True) if yes == "Y")
    return Account(
        user=user,
        host="" if is_role else host,
        role=is_role,
        methods=() if is_role else (Method(plugin=plugin or "mysql_native_password", stored="unknown"),),
        expired=expired == "Y",
        tls=str(tls or ""),
        privileges=has,
        default_role=str(default_role or ""),
        most_connections=_number(most) or 0,
    )


def _method(plugin: str, empty: bool, length: int, digest: str) -> Method:
    if plugin in ("unix_socket", "pam", "gssapi", "named_pipe"):
        return Method(plugin=plugin, stored="elsewhere")
    if digest == _INVALID:
        return Method(plugin=plugin, stored="invalid")
    if empty or length == 0:
        return Method(plugin=plugin, stored="none")
    old = plugin == "mysql_old_password" or (plugin == "mysql_native_password" and length == 16)
    return Method(plugin=plugin, stored="old" if old else "set", digest=digest)


def _listed(said: object) -> list[str]:
    return str(said or "").split("\x1f")


_SOURCE: Final = re.compile(r"FROM ((?:mysql|information_schema)\.\w+)")
_INVALID: Final = hashlib.sha256(b"invalid").hexdigest()
_KEPT: Final = frozenset({
    "version", "require_secure_transport", "default_password_lifetime", "max_connections", "max_user_connections",
    "local_infile", "secure_file_priv", "skip_name_resolve", "old_passwords", "disconnect_on_expired_password",
    "bind_address", "performance_schema", "have_ssl", "strict_password_validation",
})  # fmt: skip
_SETTINGS: Final = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uid', 'hostname', 'port', 'datadir', "
    + ", ".join(f"'{each}'" for each in sorted(_KEPT))
    + ")"
)
_HASH: Final = "COALESCE(JSON_VALUE(Priv, '$.authentication_string'), '')"
_MEMBERS: Final = (
    "(SELECT GROUP_CONCAT({0} ORDER BY n SEPARATOR X'1F') FROM JSON_TABLE(Priv, '$.auth_or[*]' COLUMNS "
    "(n FOR ORDINALITY, p VARCHAR(64) PATH '$.plugin', a VARCHAR(2000) PATH '$.authentication_string')) one)"
)
_OF_ALL: Final = " FROM mysql.global_priv"
_ACCOUNTS: Final = (
    "SELECT User, Host, COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) IN ('1', 'true'), JSON_VALUE(Priv, '$.plugin'), "
    f"{_HASH} = '', LENGTH({_HASH}), SHA2({_HASH}, 256), "
    "IF(JSON_EXISTS(Priv, '$.auth_or'), " + _MEMBERS.format("COALESCE(p, '')") + ", NULL), "
    + "IF(JSON_EXISTS(Priv, '$.auth_or'), " + _MEMBERS.format("LENGTH(COALESCE(a, ''))") + ", NULL), "
    + "IF(JSON_EXISTS(Priv, '$.auth_or'), " + _MEMBERS.format("SHA2(COALESCE(a, ''), 256)") + ", NULL), "
    "COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0), COALESCE(JSON_VALUE(Priv, '$.password_expired'), 0), "
    "JSON_VALUE(Priv, '$.password_last_changed'), JSON_VALUE(Priv, '$.password_lifetime'), "
    "JSON_VALUE(Priv, '$.ssl_type'), JSON_VALUE(Priv, '$.access'), JSON_VALUE(Priv, '$.default_role'), "
    "JSON_VALUE(Priv, '$.max_user_connections')" + _OF_ALL
)  # fmt: skip
_DATABASE_PRIVILEGES: Final = {
    "Select_priv": "SELECT", "Insert_priv": "INSERT", "Update_priv": "UPDATE", "Delete_priv": "DELETE",
    "Create_priv": "CREATE", "Drop_priv": "DROP", "Grant_priv": "GRANT OPTION", "References_priv": "REFERENCES",
    "Index_priv": "INDEX", "Alter_priv": "ALTER", "Create_tmp_table_priv": "CREATE TEMPORARY TABLES",
    "Lock_tables_priv": "LOCK TABLES", "Create_view_priv": "CREATE VIEW", "Show_view_priv": "SHOW VIEW",
    "Create_routine_priv": "CREATE ROUTINE", "Alter_routine_priv": "ALTER ROUTINE", "Execute_priv": "EXECUTE",
    "Event_priv": "EVENT", "Trigger_priv": "TRIGGER", "Delete_history_priv": "DELETE HISTORY",
}  # fmt: skip
_USER_PRIVILEGES: Final = {
    **_DATABASE_PRIVILEGES, "Reload_priv": "RELOAD", "Shutdown_priv": "SHUTDOWN", "Process_priv": "PROCESS",
    "File_priv": "FILE", "Show_db_priv": "SHOW DATABASES", "Super_priv": "SUPER",
    "Repl_slave_priv": "REPLICATION SLAVE", "Repl_client_priv": "BINLOG MONITOR", "Create_user_priv": "CREATE USER",
    "Create_tablespace_priv": "CREATE TABLESPACE",
}  # fmt: skip
PLAIN_COLUMNS: Final = (
    "User", "Host", "is_role", "plugin", "password_expired", "ssl_type", "default_role", "max_user_connections",
    *_USER_PRIVILEGES,
)  # fmt: skip
"""Columns of `mysql.user` with which the connector does where `mysql.global_priv` may not be read."""
_ACCOUNTS_PLAIN: Final = "SELECT " + ", ".join(PLAIN_COLUMNS) + " FROM mysql.user"  # noqa: S608 - constants alone
_BELOW: Final = (
    (
        "SELECT User, Host, Db, Table_name, '', Table_priv FROM mysql.tables_priv WHERE Table_priv <> ''",
        ("User", "Host", "Db", "Table_name"),
        "table",
    ),
    (
        "SELECT User, Host, Db, Table_name, Column_name, Column_priv FROM mysql.columns_priv",
        ("User", "Host", "Db", "Table_name", "Column_name"),
        "column",
    ),
    (
        "SELECT User, Host, Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv",
        ("User", "Host", "Db", "Routine_name", "Routine_type"),
        "routine",
    ),
)
_PROXIES: Final = "SELECT User, Host, Proxied_user, Proxied_host, With_grant FROM mysql.proxies_priv"
_ROLES: Final = "SELECT User, Host, Role, Admin_option FROM mysql.roles_mapping"
_CODE: Final = (
    ("SELECT db, name, type, definer FROM mysql.proc WHERE security_type = 'DEFINER'", ("db", "name", "type")),
    ("SELECT db, name, 'event', definer FROM mysql.event", ("db", "name")),
    (
        "SELECT table_schema, table_name, 'view', definer FROM information_schema.views "
        "WHERE security_type = 'DEFINER' AND table_schema NOT IN ('mysql', 'sys')",
        ("table_schema", "table_name"),
    ),
    (
        "SELECT trigger_schema, trigger_name, 'trigger', definer, event_object_table FROM information_schema.triggers "
        "WHERE trigger_schema NOT IN ('mysql', 'sys')",
        ("trigger_schema", "trigger_name"),
    ),
)
_LIVE: Final = (
    "SELECT id, user, host FROM information_schema.processlist WHERE id <> CONNECTION_ID() "
    "AND user NOT IN ('system user', 'event_scheduler', 'unauthenticated user') ORDER BY id LIMIT 100000"
)
_BEGAN: Final = (
    "SELECT CAST(UNIX_TIMESTAMP() - variable_value AS INTEGER) FROM information_schema.global_status "
    "WHERE variable_name = 'UPTIME'"
)
_PROGRAMS: Final = (
    "SELECT processlist_id, attr_value FROM performance_schema.session_connect_attrs "
    "WHERE attr_name = 'program_name' LIMIT 100000"
)
