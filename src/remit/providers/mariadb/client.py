"""Connections to one MariaDB server, each call on a thread of its own; logins that tell admitted from refused.

Secrets go to the server only by a challenge that does not show them: a server that asks for them in clear is refused.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from remit.kernel.errors import Misconfigured, Rejected, Unavailable

_SECONDS = 8
_CONNECTIONS = 4
_T = TypeVar("_T")

ACCESS_DENIED = frozenset({1045, 1698})
"""Of the credential. For a name that does not exist the server takes up the method of some other account, to look as if
it did: 1698 where that one shows no password."""
_LOGIN_REFUSED = frozenset({1044, 1045, 1698, 4151})
_NO_RIGHT = frozenset({1044, 1142, 1227, 1370, 1698, 4151, 1045})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One server and the account that connects. Never holds a password."""

    host: str
    """A host name, an address, or the absolute path of a Unix socket."""
    port: int
    user: str
    database: str = ""
    tls: bool = False
    ca: str = ""
    """A file of CA certificates; empty means those of the machine."""

    def __str__(self) -> str:
        return f"mariadb://{self.host}:{self.port}"

    def settings(self) -> dict[str, str]:
        """How clients name it, without a password."""
        settings = {"host": self.host, "port": str(self.port), "user": self.user}
        settings |= {"database": self.database} if self.database else {}
        return settings | ({"tls": "true"} if self.tls else {}) | ({"ca": self.ca} if self.ca else {})


class Session:
    """One connection, used by one thread at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run it. `values` are quoted by the driver; PyMySQL's own errors come through."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, tuple(values) or None)
            return list(cursor.fetchall())


class Server:
    """Administration of one server; safe for concurrent calls."""

    def __init__(self, address: Address, secret: str) -> None:
        self.address = address
        self._secret = secret
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="mariadb")
        self._idle: list[Any] = []
        self._closed = False

    async def close(self) -> None:
        """Hang up; connections at work are closed when their call ends."""
        self._closed = True
        self._threads.shutdown(wait=False)
        while self._idle:
            _hang_up(self._idle.pop())

    async def call(self, work: Callable[[Session], _T]) -> _T:
        """Run `work` on a connection. Raises `Unavailable`, `Rejected` (`access.mariadb.refused`), `Misconfigured`."""
        if self._closed:
            raise Unavailable("access.target.closed", f"`{self.address}` is closed")
        with translated(self.address):
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, work)

    def _call(self, work: Callable[[Session], _T]) -> _T:
        from pymysql import err

        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self.address, self._secret)
        else:
            try:
                connection.ping(reconnect=False)
            except (err.Error, OSError):
                _hang_up(connection)
                connection = connect(self.address, self._secret)
        try:
            done = work(Session(connection))
        except BaseException:
            # It may be in the midst of anything.
            _hang_up(connection)
            raise
        self._idle.append(connection)
        if self._closed:
            with suppress(ValueError):
                self._idle.remove(connection)
                _hang_up(connection)
        return done


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a login."""

    admitted: bool
    words: str
    """The server's own, with its code."""
    code: int = 0


async def login(address: Address, secret: str, then: Callable[[Session], object] | None = None) -> Attempt:
    """Log in once, and do `then` there. Raises `Unavailable`; errors of `then` are translated as those of `call`."""
    with translated(address):
        return await asyncio.to_thread(_login, address, secret, then)


def _login(address: Address, secret: str, then: Callable[[Session], object] | None) -> Attempt:
    from pymysql import err

    try:
        connection = connect(address, secret)
    except err.OperationalError as error:
        code = _code(error)
        if code in _LOGIN_REFUSED:
            return Attempt(admitted=False, words=f"{code} {_words(error)}", code=code)
        raise
    try:
        if then is not None:
            then(Session(connection))
    finally:
        _hang_up(connection)
    return Attempt(admitted=True, words="OK")


def connect(address: Address, secret: str) -> Any:
    """A connection of PyMySQL, in autocommit. Its own errors come through."""
    from pymysql.connections import Connection

    # PyMySQL is typed nowhere, so that its class is `Any`.
    class Careful(Connection):  # type: ignore[misc]
        _auth_plugin_name: str

        def _get_server_information(self) -> None:
            super()._get_server_information()
            if self._auth_plugin_name not in ("mysql_native_password", "client_ed25519") and not address.tls:
                # The other methods give the secret to whoever sends a public key, or ask for it in clear.
                self._auth_plugin_name = "mysql_native_password"

    refused = ["mysql_clear_password", "dialog", "mysql_old_password"]
    refused += [] if address.tls else ["sha256_password", "caching_sha2_password"]
    how: dict[str, Any] = {"ssl_disabled": True}
    if address.tls:
        how = {"ssl": ssl.create_default_context(cafile=address.ca or None)}
    connection = Careful(
        host="localhost" if address.host.startswith("/") else address.host,
        port=address.port,
        user=address.user,
        password=secret,
        database=address.database or None,
        charset="utf8mb4",
        autocommit=True,
        local_infile=False,
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        write_timeout=_SECONDS,
        program_name="remit",
        auth_plugin_map=dict.fromkeys(refused, _Refuse),
        defer_connect=True,
        **how,
    )
    connection.connect(_local(address.host) if address.host.startswith("/") else None)
    return connection


def _local(path: str) -> socket.socket:
    """PyMySQL forgets to close one that was refused."""
    opened = socket.socket(socket.AF_UNIX)
    try:
        opened.settimeout(_SECONDS)
        opened.connect(path)
    except BaseException:
        opened.close()
        raise
    return opened


class _Refuse:
    """Stands in for methods of authentication that would show the secret."""

    def __init__(self, connection: object) -> None:
        return

    def authenticate(self, packet: object) -> None:
        from pymysql import err

        raise err.OperationalError(2059, "the server asks for the password in a way that would show it")


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn PyMySQL's errors into ours; never with a statement."""
    from pymysql import err

    try:
        yield
    except (err.InterfaceError, OSError) as error:
        raise Unavailable(
            "access.mariadb.unreachable", f"`{address}` does not answer: {type(error).__name__}"
        ) from None
    except err.Error as error:
        code, words = _code(error), _words(error)
        if code in _NO_RIGHT:
            raise Misconfigured(
                "access.mariadb.right",
                f"`{address}` refuses the broker: {code} {words}",
                next_step="grant what `remit target add` names, or see the broker's password",
            ) from None
        if code == 0 or 2000 <= code < 3000 or code in (1040, 1053, 1129, 1203, 1226, 1927):
            raise Unavailable("access.mariadb.unreachable", f"`{address}` does not answer: {code} {words}") from None
        raise Rejected("access.mariadb.refused", f"`{address}` refused: {code} {words}") from None


def _hang_up(connection: Any) -> None:
    from pymysql import err

    with suppress(err.Error, OSError):
        connection.close()


def _code(error: Exception) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def _words(error: Exception) -> str:
    words = str(error.args[1]) if len(error.args) > 1 else str(error)
    return " ".join(words.split())[:200]
