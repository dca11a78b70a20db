"""A program that makes others take the new version: run without a shell, without the secret, with an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from remit.access.rotation.consumers.entries import bad, only
from remit.access.rotation.model import Login
from remit.access.rotation.ports import House, Seen
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.providers.programs import run_program


class Hook:
    """Runs when the places before it were written, and again when they were put back."""

    def __init__(self, label: str, argv: Sequence[str], *, seconds: float) -> None:
        self.label = label
        self._argv = argv
        self._seconds = seconds

    async def capture(self) -> bytes:
        return b""

    def recall(self, captured: bytes) -> Mapping[str, str]:
        return {}

    async def publish(self, login: Login) -> None:
        done, words = await run_program(self._argv, seconds=self._seconds)
        if not done:
            raise Rejected("access.rotation.hook", f"{self.label} failed: {words[:200]}")

    async def verify(self, login: Login) -> Seen:
        return Seen(ok=True, measured=False, detail="a program that ran holds nothing")

    async def restore(self, captured: bytes, old: Login | None) -> None:
        done, words = await run_program(self._argv, seconds=self._seconds)
        if not done:
            raise Rejected("access.rotation.hook", f"{self.label} failed: {words[:200]}")


class CommandFactory:
    """The plug-in."""

    id = "command"
    title = "a program to run"

    def make(self, options: Mapping[str, Json], house: House) -> Hook:
        only(options, "argv", "seconds")
        argv, seconds = options.get("argv"), options.get("seconds", 30)
        if not isinstance(argv, list) or not 1 <= len(argv) <= 64 or not all(isinstance(each, str) for each in argv):
            raise bad("`argv` is a list: a program and its arguments")
        words = [str(each) for each in argv]
        if not words[0].startswith("/") or any("\0" in each or len(each) > 4096 for each in words):
            raise bad("the program of `argv` is an absolute path")
        if type(seconds) is not int or not 1 <= seconds <= 300:
            raise bad("`seconds` is a whole number from 1 to 300")
        return Hook(f"command {words[0]}", words, seconds=seconds)
