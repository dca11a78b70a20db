"""Typed operations on one LDAP server over protected connections. Errors are ours, without secrets.

The driver blocks: each `Directory` has a few threads of its own, and as many connections as they use at once.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable

T = TypeVar("T")
Protection = Literal["ldaps", "starttls", "ldapi", "none"]

SUCCESS, NO_SUCH_OBJECT, NO_SUCH_ATTRIBUTE, VALUE_EXISTS, ENTRY_EXISTS = 0, 32, 16, 20, 68
INVALID_CREDENTIALS, OBJECT_CLASS_VIOLATION, NOT_ON_NON_LEAF, NO_ACCESS = 49, 65, 66, 50
UNDEFINED_TYPE = 17
_REFERRAL = 10
_SIZE_LIMIT = 4
_PARTIAL = frozenset({3, _SIZE_LIMIT})
_NOTHING = frozenset({SUCCESS, NO_SUCH_OBJECT, NO_ACCESS})
_TRY_LATER = frozenset({3, 11, 51, 52})
_LOGIN = frozenset({7, 8, 13, 48, 49})
_RIGHTS = frozenset({50})
_SECONDS = 5
_THREADS = 8
_MOST = 100_000
_PAGE = 500
_PAGE_SECONDS = 60
_ADMIN_LIMIT = 11
_MOST_VALUES = 10_000
_WHO_AM_I = "1.3.6.1.4.1.4203.1.11.3"
_PAGED = "1.2.840.113556.1.4.319"
_PROBE_SECONDS = 2
_WORDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One server and the name that binds. Never holds a password."""

    host: str
    """A host name, an address, or the absolute path of a Unix socket."""
    port: int
    user: str
    """A distinguished name; empty for nobody."""
    protection: Protection = "ldaps"
    ca: str = ""
    """A file of CA certificates; empty means those of the machine."""

    def __str__(self) -> str:
        return self.uri

    @property
    def uri(self) -> str:
        """As clients of OpenLDAP write it."""
        if self.protection == "ldapi":
            return f"ldapi://{quote(self.host, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.protection == 'ldaps' else 'ldap'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the server answered to one operation."""

    code: int
    words: str
    """The server's own, with its code: `49 invalidCredentials`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry, as far as we may see it."""

    name: str
    attributes: Mapping[str, Sequence[str]] = field(repr=False)
    """Attribute in lower case → values that are text."""

    def first(self, attribute: str) -> str:
        values = self.attributes.get(attribute.lower(), ())
        return values[0] if values else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEntry:
    """An entry whose values may be no text."""

    name: str
    attributes: Mapping[str, tuple[bytes, ...]] = field(repr=False)
    """Attribute in lower case → at most 10,000 values."""

    def text(self, attribute: str) -> str:
        """The first value as text; empty without one."""
        values = self.attributes.get(attribute.lower(), ())
        return values[0].decode("utf-8", "replace") if values else ""

    def texts(self, attribute: str) -> tuple[str, ...]:
        return tuple(value.decode("utf-8", "replace") for value in self.attributes.get(attribute.lower(), ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Part of an answer."""

    entries: tuple[RawEntry, ...]
    referrals: int
    """Other servers that were named, and not asked."""
    cookie: bytes | None
    """What asks for the next page; `None` at the end."""
    outcome: Outcome

    @property
    def cut_short(self) -> bool:
        """A limit of the server ended the answer before its end."""
        return self.outcome.code in {*_PARTIAL, _ADMIN_LIMIT}


class Link:
    """One bound connection; blocks, and belongs to one thread at a time."""

    def __init__(self, address: Address, secret: str) -> None:
        """Connect, protect and bind. Raises `Unavailable` or `Misconfigured`; read `bound` for the answer."""
        self._address = address
        self._connection: Any = _dial(address, secret)
        try:
            self.bound = self._bind()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up; works twice, and on a connection that never came up."""
        from ldap3.core.exceptions import LDAPExceptionError

        with suppress(LDAPExceptionError, OSError):
            self._connection.unbind()
        if self._connection.socket is not None:
            self._connection.socket.close()

    def search(
        self, base: str, condition: str, *, scope: str = "SUBTREE", attributes: Sequence[str] = ("1.1",),
        names_only: bool = False, limit: int = 0,
    ) -> list[Entry]:  # fmt: skip
        """Entries that we may see; none where the base does not exist for us.

        With a `limit` the first of more, and what two seconds find; without one all of them, page by page.
        """
        found: list[Entry] = []
        cookie: bytes | None = None
        while True:
            with translated(self._address):
                self._connection.search(
                    base, condition, scope, attributes=list(attributes), types_only=names_only, size_limit=limit,
                    time_limit=_PROBE_SECONDS if limit else 0, dereference_aliases="NEVER",
                    **({} if limit or scope == "BASE" else {"paged_size": _PAGE, "paged_cookie": cookie}),
                )  # fmt: skip
            outcome = self._outcome()
            if outcome.code not in _NOTHING and not (limit and outcome.code in _PARTIAL):
                raise _refused(self._address, outcome)
            rows = [row for row in self._connection.response or () if row.get("type") == "searchResEntry"]
            found += [_entry(row) for row in rows]
            cookie = _cookie(self._connection.result)
            if not cookie or len(found) > _MOST:
                return found

    def page(
        self, base: str, condition: str, *, attributes: Sequence[str], cookie: bytes | None = None,
        scope: str = "SUBTREE", size: int = _PAGE,
    ) -> Page:  # fmt: skip
        """One page of an answer, its values as bytes; where the server ends it early the page says why.

        Raises `Unavailable`, and `Misconfigured` for a login or a control that is refused.
        """
        with translated(self._address):
            self._connection.search(
                base,
                condition,
                scope,
                attributes=list(attributes),
                dereference_aliases="NEVER",
                time_limit=_PAGE_SECONDS,
                **({"paged_size": size, "paged_cookie": cookie} if scope != "BASE" else {}),
            )
        outcome = self._outcome()
        if outcome.code not in {*_NOTHING, *_PARTIAL, _ADMIN_LIMIT, _REFERRAL}:
            raise _refused(self._address, outcome)
        rows = self._connection.response or ()
        return Page(
            entries=tuple(
                RawEntry(name=str(row.get("dn", "")), attributes=_raw(row.get("raw_attributes", {})))
                for row in rows
                if row.get("type") == "searchResEntry"
            ),
            referrals=sum(row.get("type") == "searchResRef" for row in rows) + (outcome.code == _REFERRAL),
            cookie=_cookie(self._connection.result),
            outcome=outcome,
        )

    def add(self, name: str, attributes: Mapping[str, Sequence[str]], *, tolerate: Sequence[int] = ()) -> Outcome:
        with translated(self._address):
            self._connection.add(name, attributes={key: list(values) for key, values in attributes.items()})
        return self._expected(tolerate)

    def modify(
        self, name: str, changes: Mapping[str, Sequence[tuple[str, Sequence[str]]]], *, tolerate: Sequence[int] = ()
    ) -> Outcome:
        """`changes`: attribute → pairs of `MODIFY_ADD`, `MODIFY_DELETE` or `MODIFY_REPLACE` and values."""
        with translated(self._address):
            self._connection.modify(
                name, {key: [(verb, list(values)) for verb, values in pairs] for key, pairs in changes.items()}
            )
        return self._expected(tolerate)

    def delete(self, name: str, *, tolerate: Sequence[int] = ()) -> Outcome:
        with translated(self._address):
            self._connection.delete(name)
        return self._expected(tolerate)

    def whoami(self) -> Outcome:
        """Ask the server who we are: the least that a login can be used for."""
        with translated(self._address):
            self._connection.extended(_WHO_AM_I)
        return self._outcome()

    def root(self) -> Entry:
        """What the server says of itself."""
        wanted = ("namingContexts", "supportedControl", "supportedCapabilities", "vendorName")
        found = self.search("", "(objectClass=*)", scope="BASE", attributes=(*wanted, "monitorContext"))
        return found[0] if found else Entry(name="", attributes={})

    def _bind(self) -> Outcome:
        with translated(self._address):
            connection = self._connection
            connection.open(read_server_info=False)
            if self._address.protection == "starttls":
                connection.start_tls(read_server_info=False)
            connection.bind(read_server_info=False)
        return self._outcome()

    def _expected(self, tolerate: Sequence[int]) -> Outcome:
        outcome = self._outcome()
        if outcome.code != SUCCESS and outcome.code not in tolerate:
            raise _refused(self._address, outcome)
        return outcome

    def _outcome(self) -> Outcome:
        result = self._connection.result or {}
        words = f"{result.get('result', -1)} {result.get('description', '')}"
        more = " ".join(str(result.get("message") or "").split())
        return Outcome(code=int(result.get("result", -1)), words=(f"{words}: {more}" if more else words)[:_WORDS])


class Directory:
    """Administration of one server; safe for concurrent calls."""

    def __init__(self, address: Address, secret: str) -> None:
        self.address = address
        self.secret = secret
        self._idle: deque[Link] = deque()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="remit-ldap")
        self._closed = False

    def __repr__(self) -> str:
        return f"Directory({self.address})"

    async def run(self, work: Callable[[Link], T]) -> T:
        """Work on a connection that is bound as us, in a thread; once more where a kept connection had died.

        Raises what `work` raises, and `Misconfigured` (`access.ldap.login`) for a login that is refused.
        """
        return await self._in_thread(lambda: self.on_link(work))

    async def apart(self, address: Address, secret: str, work: Callable[[Link], T]) -> T:
        """Work on a fresh connection as somebody else, which is closed afterwards; `work` looks at `bound` itself."""

        def job() -> T:
            link = Link(address, secret)
            try:
                return work(link)
            finally:
                link.close()

        return await self._in_thread(job)

    async def close(self) -> None:
        """Hang up; works twice."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        self._threads.shutdown(wait=False)

    async def _in_thread(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, job)

    def on_link(self, work: Callable[[Link], T]) -> T:
        """As `run`, for who is in a thread already."""
        while True:
            kept = self._idle.pop() if self._idle else None
            link = kept or self._bound()
            try:
                done = work(link)
            except RemitError as error:
                if isinstance(error, Unavailable):
                    link.close()
                    if kept is not None:
                        continue
                else:
                    self._keep(link)
                raise
            except BaseException:
                link.close()
                raise
            self._keep(link)
            return done

    def _bound(self) -> Link:
        link = Link(self.address, self.secret)
        if link.bound.code != SUCCESS:
            link.close()
            raise _refused(self.address, link.bound)
        return link

    def _keep(self, link: Link) -> None:
        if self._closed:
            link.close()
        else:
            self._idle.append(link)


def driver() -> Any:
    """The library, imported quietly: it still asks pyasn1 for names that are deprecated there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import ldap3

    return ldap3


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn the library's errors into ours; never with an operation's arguments."""
    driver()
    from ldap3.core import exceptions

    try:
        yield
    except (exceptions.LDAPCertificateError, exceptions.LDAPStartTLSError, ssl.SSLError) as error:
        raise _unprotected(address, error) from None
    except exceptions.LDAPSocketOpenError as error:
        if "certificate" in str(error).lower() or "ssl" in str(error).lower():
            raise _unprotected(address, error) from None
        raise Unavailable("access.ldap.unreachable", f"`{address}` does not answer") from None
    except (exceptions.LDAPCommunicationError, exceptions.LDAPMaximumRetriesError, OSError) as error:
        raise Unavailable("access.ldap.unreachable", f"`{address}` does not answer: {type(error).__name__}") from None
    except exceptions.LDAPExceptionError as error:
        raise Rejected("access.ldap.refused", f"`{address}`: the driver refuses: {type(error).__name__}") from None


def _unprotected(address: Address, error: Exception) -> Misconfigured:
    return Misconfigured(
        "access.ldap.tls",
        f"`{address}` gives no protected connection: {' '.join(str(error).split())[:160]}",
        next_step="see the server's certificate, its names, and the option `ca`",
    )


def _refused(address: Address, outcome: Outcome) -> RemitError:
    if outcome.code == _REFERRAL:
        return Misconfigured(
            "access.ldap.referral",
            f"`{address}` refers to another server",
            next_step="add the server that takes writes: a referral followed would carry the login along",
        )
    if outcome.code == _SIZE_LIMIT:
        return Misconfigured(
            "access.ldap.limit",
            f"`{address}` shows fewer entries than there are",
            next_step='lift the limit for the broker: olcLimits: dn.exact="BROKER" size=unlimited',
        )
    if outcome.code in _TRY_LATER:
        return Unavailable("access.ldap.unreachable", f"`{address}` answers {outcome.words}")
    if outcome.code in _LOGIN:
        return Misconfigured(
            "access.ldap.login",
            f"`{address}` refuses the broker: {outcome.words}",
            next_step="see the broker's entry and its password",
        )
    if outcome.code in _RIGHTS:
        return Misconfigured(
            "access.ldap.rights",
            f"`{address}` does not let the broker do it: {outcome.words}",
            next_step="give it the access rules of docs/plugins.md, `LDAP broker`",
        )
    return Rejected("access.ldap.refused", f"`{address}` refused: {outcome.words}")


def _dial(address: Address, secret: str) -> Any:
    ldap3 = driver()
    with translated(address):
        tls = _strict(address) if address.protection in ("ldaps", "starttls") else None
        where = address.uri if address.protection == "ldapi" else address.host
        server = ldap3.Server(
            where, port=None if address.protection == "ldapi" else address.port, use_ssl=address.protection == "ldaps",
            tls=tls, get_info=ldap3.NONE, connect_timeout=_SECONDS,
        )  # fmt: skip
        how = {"authentication": ldap3.SIMPLE, "user": address.user, "password": secret} if address.user else {}
        return ldap3.Connection(
            server, client_strategy=ldap3.SYNC, auto_referrals=False, check_names=False, raise_exceptions=False,
            receive_timeout=_SECONDS, auto_bind=ldap3.AUTO_BIND_NONE, **how,
        )  # fmt: skip


def _strict(address: Address) -> Any:
    ldap3 = driver()
    base: Any = ldap3.Tls
    context = ssl.create_default_context(cafile=address.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    class Strict(base):  # type: ignore[misc]
        """The library's own context does not look at names before the handshake, and lets them be `*`."""

        def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
            connection.socket = context.wrap_socket(connection.socket, server_hostname=address.host)

    return Strict(validate=ssl.CERT_REQUIRED)


def _cookie(result: Mapping[str, Any]) -> bytes | None:
    value = result.get("controls", {}).get(_PAGED, {}).get("value", {}).get("cookie")
    return bytes(value) if value else None


def _raw(attributes: Mapping[str, Any]) -> dict[str, tuple[bytes, ...]]:
    return {
        str(key).lower(): tuple(value for value in (values or ())[:_MOST_VALUES] if isinstance(value, bytes))
        for key, values in attributes.items()
    }


def _entry(row: Mapping[str, Any]) -> Entry:
    attributes: dict[str, Sequence[str]] = {}
    for key, values in row.get("raw_attributes", {}).items():
        attributes[str(key).lower()] = tuple(
            value.decode(errors="replace") for value in values or () if isinstance(value, bytes)
        )
    return Entry(name=str(row.get("dn", "")), attributes=attributes)
