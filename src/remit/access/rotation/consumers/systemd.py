"""A systemd unit that is reloaded or restarted when the places before it were written."""

from __future__ import annotations

import re
from collections.abc import Mapping

from remit.access.rotation.consumers.command import Hook
from remit.access.rotation.consumers.entries import bad, only, path_of, text_of
from remit.access.rotation.ports import House
from remit.kernel.canonical import Json

_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,250}\.(service|socket|target)")
_VERBS = ("reload", "restart", "reload-or-restart", "try-reload-or-restart")


class SystemdFactory:
    """The plug-in."""

    id = "systemd"
    title = "a systemd unit to reload"

    def make(self, options: Mapping[str, Json], house: House) -> Hook:
        only(options, "unit", "verb", "systemctl", "user")
        unit, verb = text_of(options, "unit"), text_of(options, "verb", "reload-or-restart")
        if not _UNIT.fullmatch(unit) or verb not in _VERBS:
            raise bad("`unit` is the whole name of a unit, and `verb` one of: " + ", ".join(_VERBS))
        user = options.get("user", False)
        if not isinstance(user, bool):
            raise bad("`user` is true or false")
        program = path_of(options, "systemctl", "/usr/bin/systemctl")
        argv = [program, *(["--user"] if user else []), verb, "--", unit]
        return Hook(f"systemd {verb} {unit}", argv, seconds=90)
