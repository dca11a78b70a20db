"""A configuration file drawn from a Jinja template, in a sandbox: the template sees the login, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from remit.access.rotation.consumers.entries import only, path_of
from remit.access.rotation.model import Login
from remit.access.rotation.ports import House, Seen
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.providers.places import read_place, remove_place, replace_place

_ABSENT = b"-"


class ConfigFile:
    """Draws the file anew for each version; what was there before is put back as it was, byte for byte."""

    def __init__(self, path: str, template: str) -> None:
        self.label = f"config {path}"
        self._path = path
        self._template = template

    async def capture(self) -> bytes:
        text = await asyncio.to_thread(read_place, self._path)
        return _ABSENT if text is None else b"=" + text.encode()

    def recall(self, captured: bytes) -> Mapping[str, str]:
        return {}

    async def publish(self, login: Login) -> None:
        await asyncio.to_thread(replace_place, self._path, await asyncio.to_thread(self._drawn, login))

    async def verify(self, login: Login) -> Seen:
        text = await asyncio.to_thread(read_place, self._path)
        same = text == await asyncio.to_thread(self._drawn, login)
        return Seen(ok=same, detail="" if same else "the file is not what the template draws")

    async def restore(self, captured: bytes, old: Login | None) -> None:
        if captured == _ABSENT:
            await asyncio.to_thread(remove_place, self._path)
        else:
            await asyncio.to_thread(replace_place, self._path, captured[1:].decode())

    def _drawn(self, login: Login) -> str:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        text = read_place(self._template)
        if text is None:
            raise Rejected("access.rotation.template", f"the template `{self._template[:200]}` does not exist")
        house = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
        words = {"user": login.user, "secret": login.secret, "host": login.host, "port": login.port}
        try:
            return house.from_string(text).render(**words, database=login.database)
        except (TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            # Its message may show what it was drawing: its kind says enough.
            raise Rejected(
                "access.rotation.template",
                f"the template `{self._template[:200]}` cannot be drawn: {type(error).__name__}",
                next_step="it may use `user`, `secret`, `host`, `port` and `database`",
            ) from None


class ConfigFactory:
    """The plug-in."""

    id = "config"
    title = "a configuration file drawn from a template"

    def make(self, options: Mapping[str, Json], house: House) -> ConfigFile:
        only(options, "path", "template")
        return ConfigFile(path_of(options, "path"), path_of(options, "template"))
