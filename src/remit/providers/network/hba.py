"""pg_hba.conf of a server on this machine: written in one step, judged by the server before it reads it anew."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.postgres.address import Address
from remit.providers.postgres.client import connected, translated_errors
from remit.providers.postgres.login import Connecting

_MOST: Final = 1 << 20


class HbaFile:
    """The file, and the server that reads it, asked as its administrator."""

    def __init__(self, address: Address, secret: str) -> None:
        self._address = address
        self._secret = secret

    def __repr__(self) -> str:
        return f"HbaFile({self._address})"

    async def seen_from(self) -> tuple[str, bool]:
        """The address from which the server sees us come (empty by a Unix socket), and whether it reads patterns."""
        async with connected(self._address, self._secret) as connection:
            with translated_errors(self._address):
                row = await connection.fetchrow(
                    "SELECT coalesce(host(inet_client_addr()), '') AS address,"
                    " current_setting('server_version_num')::int >= 160000 AS patterns"
                )
        return row["address"], row["patterns"]

    async def complaint(self) -> str:
        """What the server says is wrong with the file as it lies there, whether or not it has read it; or nothing."""
        async with connected(self._address, self._secret) as connection:
            with translated_errors(self._address):
                row = await connection.fetchrow(
                    "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY 1 LIMIT 1"
                )
        return "" if row is None else f"line {row['line_number']}: {row['error'][:200]}"

    async def rewrite(self, path: str, content: str) -> None:
        """Write the file, let the server judge it, and let it read it; a file that it refuses is put back at once.

        Raises `Rejected` (`access.segment.hba`) with the server's words, and as `read`.
        """
        async with connected(self._address, self._secret) as connection:
            with translated_errors(self._address):
                theirs = str(await connection.fetchval("SELECT current_setting('hba_file')"))
                if not _same(theirs, path):
                    raise Rejected(
                        "access.segment.hba", f"the server reads another file than `{path[:200]}`",
                        next_step="give the file of `SHOW hba_file` by --file",
                    )  # fmt: skip
                before = read(path)
                write(path, content)
                try:
                    wrong = await connection.fetchval(
                        "SELECT string_agg(line_number || ': ' || error, '; ') FROM pg_hba_file_rules"
                        " WHERE error IS NOT NULL"
                    )
                except BaseException:
                    write(path, before)
                    raise
                if wrong:
                    write(path, before)
                    raise Rejected(
                        "access.segment.hba", f"the server cannot read these rules: line {str(wrong)[:300]}",
                        next_step="they were not put in force; see `remit segment plan`",
                    )  # fmt: skip
                await connection.fetchval("SELECT pg_reload_conf()")


class FromElsewhere(Connecting):
    """A connection to a server on the loopback interface that comes from another address than ours."""

    def __init__(self, address: Address, source: str) -> None:
        self._task = asyncio.create_task(asyncio.open_connection(address.host, address.port, local_addr=(source, 0)))


def read(path: str) -> str:
    """The content of the file; `Misconfigured` (`access.segment.file`) where it is none that we may write."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unfit(path)
            content = file.read(_MOST + 1)
        if len(content) > _MOST or not path.startswith("/"):
            raise _unfit(path)
        return content.decode()
    except (OSError, UnicodeDecodeError):
        raise _unfit(path) from None


def write(path: str, content: str) -> None:
    """Replace the file in one step, with the owner and the rights that it had."""
    known = Path(path).lstat()
    beside = Path(f"{path}.remit")
    with suppress(FileNotFoundError):
        beside.unlink()
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            if (known.st_uid, known.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, known.st_uid, known.st_gid)
            os.fchmod(handle, stat.S_IMODE(known.st_mode))
            file.write(content)
            file.flush()
            os.fsync(handle)
        beside.replace(path)
    except OSError:
        with suppress(FileNotFoundError):
            beside.unlink()
        raise _unfit(path) from None


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _unfit(path: str) -> Misconfigured:
    return Misconfigured(
        "access.segment.file", f"`{path[:200]}` is no regular file that Remit may read and write, at most 1 MiB",
        next_step="give the pg_hba.conf of a server on this machine, by its absolute path",
    )  # fmt: skip
