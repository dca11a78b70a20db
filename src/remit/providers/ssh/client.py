"""asyncssh as we use it: an administrator's connection that asks the host's helper, and logins by certificate.

Neither looks at this machine's own configuration, agent or known hosts, and no host is trusted at first sight.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable

if TYPE_CHECKING:
    import asyncssh

_CONNECT = 10.0
_ANSWER = 30.0
_AT_ONCE = 3
"""Helpers on a host; sshd's `MaxSessions` is 10."""
_TRIES = 3
_LOGIN_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where a host is, and how it is known to be that host."""

    name: str
    port: int
    known_hosts: str
    """Lines of a `known_hosts` file: keys of this host, or of an authority of hosts."""

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a login came to."""

    admitted: bool
    words: str
    """The refusal in the host's words."""


def _options(host: Host) -> dict[str, Any]:
    import asyncssh

    return {
        "known_hosts": asyncssh.import_known_hosts(host.known_hosts),
        "config": None,
        "agent_path": None,
        "gss_host": None,
        "preferred_auth": "publickey",
        "password_auth": False,
        "kbdint_auth": False,
        "connect_timeout": _CONNECT,
        "login_timeout": _CONNECT,
    }


async def login(host: Host, account: str, key: str, certificate: str) -> Attempt:
    """Log in by certificate and hang up; `Unavailable` where the host says neither yes nor no."""
    import asyncssh

    pair = asyncssh.import_private_key(key), asyncssh.import_certificate(certificate)
    last = ""
    for attempt in range(_LOGIN_TRIES):
        # `MaxStartups` drops connections while many others are at their login.
        await asyncio.sleep(0.05 * attempt * attempt)
        try:
            made = await asyncssh.connect(host.name, host.port, username=account, client_keys=[pair], **_options(host))
        except asyncssh.PermissionDenied as error:
            return Attempt(admitted=False, words=error.reason)
        except asyncssh.HostKeyNotVerifiable as error:
            raise _stranger(host, error.reason) from None
        except (OSError, asyncssh.Error, TimeoutError) as error:
            last = _words(error)
            continue
        made.close()
        await made.wait_closed()
        return Attempt(admitted=True, words="")
    raise _away(host, last)


@dataclass(slots=True)
class Admin:
    """The connection of a host's administrator, opened again where it broke."""

    host: Host
    user: str
    key: str = field(repr=False)
    helper: str
    """The command that answers; a host may force it for this key."""
    _connection: asyncssh.SSHClientConnection | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _idle: list[asyncssh.SSHClientProcess[str]] = field(default_factory=list)
    """Helpers that wait for a request: a start of one costs more than all that it is asked."""

    async def open(self) -> None:
        """`Unavailable`; `Misconfigured` where the host is another, or refuses the key."""
        await self._connected(None)

    async def close(self) -> None:
        """Hang up; works twice."""
        made, self._connection = self._connection, None
        self._idle.clear()
        if made is not None:
            made.close()
            await made.wait_closed()

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The helper's answer. `Misconfigured` (`access.ssh.not_installed`) where there is no helper.

        Asked again on a new connection where the old one broke: every request may be carried out twice.
        """
        import asyncssh

        last, used = "", None
        async with self._gate:
            for _ in range(_TRIES):
                used = await self._connected(used)
                try:
                    async with asyncio.timeout(_ANSWER):
                        return self._read(*await self._say(used, json.dumps(request)))
                except (OSError, asyncssh.Error, TimeoutError) as error:
                    last = _words(error)
        raise _away(self.host, last)

    async def _say(self, connection: asyncssh.SSHClientConnection, text: str) -> tuple[str, str]:
        helper = self._idle.pop() if self._idle else await connection.create_process(f"{self.helper} admin")
        try:
            helper.stdin.write(text + "\n")
            said = await helper.stdout.readline()
        except BaseException:
            helper.close()
            raise
        if said.endswith("\n") and connection is self._connection:
            self._idle.append(helper)
            return said, ""
        trouble = "" if said else await helper.stderr.read(400)
        if connection.is_closed() or not (said or trouble):
            raise OSError("the connection broke")
        return said, trouble

    def _read(self, said: str, trouble: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(said)
            _ = answer["remit"]
        except (ValueError, KeyError, TypeError):
            raise Misconfigured(
                "access.ssh.not_installed",
                f"the helper on `{self.host}` does not answer: {trouble.strip()[:200] or 'no answer'}",
                next_step="`remit target install NAME --print` shows what root must run on the host",
            ) from None
        if "error" in answer:
            raise Unavailable("access.ssh.helper", f"the helper on `{self.host}` refuses: {str(answer['words'])[:300]}")
        return answer

    async def run(self, command: str, text: str) -> tuple[str, str]:
        """What a command says and complains of."""
        import asyncssh

        made = await self._connected(None)
        try:
            async with self._gate, asyncio.timeout(_ANSWER):
                done = await made.run(command, input=text, check=False, encoding="utf-8")
        except (OSError, asyncssh.Error, TimeoutError) as error:
            raise _away(self.host, _words(error)) from None
        return str(done.stdout or ""), str(done.stderr or "")

    async def _connected(self, broken: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
        import asyncssh

        async with self._opening:
            if self._connection is not None and self._connection is not broken and not self._connection.is_closed():
                return self._connection
            self._idle.clear()
            if self._connection is not None:
                self._connection.abort()
                self._connection = None
            try:
                self._connection = await asyncssh.connect(
                    self.host.name,
                    self.host.port,
                    username=self.user,
                    client_keys=[asyncssh.import_private_key(self.key)],
                    keepalive_interval=15,
                    **_options(self.host),
                )
            except asyncssh.HostKeyNotVerifiable as error:
                raise _stranger(self.host, error.reason) from None
            except asyncssh.PermissionDenied:
                raise Misconfigured(
                    "access.ssh.login",
                    f"`{self.host}` refuses the administrator `{self.user}`",
                    next_step="see its authorized_keys, and that its list of revoked certificates can be read",
                ) from None
            except (OSError, asyncssh.Error, TimeoutError) as error:
                raise _away(self.host, _words(error)) from None
            return self._connection


def check_key(text: str) -> None:
    """`ValueError` for what asyncssh cannot use as a private key."""
    import asyncssh

    asyncssh.import_private_key(text)


def _words(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or type(error).__name__)[:200]


def _stranger(host: Host, words: str) -> RemitError:
    return Rejected(
        "access.ssh.host_key",
        f"`{host}` is not the host that the target names: {words[:200]}",
        next_step="compare its key (`ssh-keyscan`, on a path that you trust) with the option host_key or host_ca",
    )


def _away(host: Host, words: str) -> Unavailable:
    return Unavailable("access.ssh.unreachable", f"`{host}` does not answer: {words}")
