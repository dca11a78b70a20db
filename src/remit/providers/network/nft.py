"""nftables of the network namespace that we are in, through `nft`: rulesets by standard input, never by a shell."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from remit.kernel.errors import Misconfigured, Unavailable

_SECONDS: Final = 10.0
_TABLE: Final = re.compile(r"remit_[0-9a-z]{8}_[0-9a-f]{8}")
_PATH: Final = os.pathsep.join((os.defpath, "/usr/sbin", "/sbin"))


class Nft:
    """Loads, reads and deletes tables of the family `inet` whose names are Remit's."""

    async def check(self, ruleset: str) -> None:
        """Let nft judge a ruleset; nothing changes. Raises as `load`."""
        await self._run("--check", "-f", "-", said=ruleset)

    async def load(self, ruleset: str) -> None:
        """Load it as one transaction, all or nothing.

        Raises `Misconfigured` (`access.segment.nft`) where nft is missing or refuses, `Unavailable` when it hangs.
        """
        await self._run("-f", "-", said=ruleset)

    async def listing(self, table: str) -> str:
        """A digest of how the kernel tells the table now; empty where there is none."""
        assert _TABLE.fullmatch(table), "only tables of Remit are read"
        tables = _json(await self._run("-j", "list", "tables"))
        if not any(each.get("table", {}).get("name") == table for each in tables):
            return ""
        told = [_plain(each) for each in _json(await self._run("-j", "list", "table", "inet", table))]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    async def delete(self, table: str) -> None:
        """Take the table away; it may be gone already."""
        assert _TABLE.fullmatch(table), "only tables of Remit are deleted"
        await self._run("-f", "-", said=f"table inet {table}\ndelete table inet {table}\n")

    async def _run(self, *arguments: str, said: str = "") -> str:
        program = shutil.which("nft", path=_PATH)
        if program is None:
            raise Misconfigured(
                "access.segment.nft", "the program `nft` is not installed", next_step="install the package nftables"
            )
        with _memory(said) as stdin:
            process = await asyncio.create_subprocess_exec(
                program, *arguments, stdin=stdin, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, env={"PATH": _PATH, "LC_ALL": "C"},
            )  # fmt: skip
        try:
            async with asyncio.timeout(_SECONDS):
                printed, wrong = await process.communicate()
        except TimeoutError:
            raise Unavailable("access.segment.nft", "nft does not answer") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            words = " ".join(wrong.decode("utf-8", "replace").split())[:300]
            raise Misconfigured(
                "access.segment.nft", f"nft refused: {words}",
                next_step="run Remit with CAP_NET_ADMIN, or load what `remit segment plan` prints yourself",
            )  # fmt: skip
        return printed.decode()


@contextmanager
def _memory(text: str) -> Iterator[int]:
    """`text` as a file in memory: nothing waits for a program that stops reading."""
    file = os.memfd_create("ruleset")
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(file, data) :]
        os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)


def _json(text: str) -> list[dict[str, Any]]:
    return [each for each in json.loads(text)["nftables"] if "metainfo" not in each]


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    """Without handles, which count what was loaded before."""
    return {kind: {key: value for key, value in what.items() if key != "handle"} for kind, what in said.items()}
