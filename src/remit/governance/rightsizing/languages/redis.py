"""Redis: commands of a user. A list of clients shows each one's last command alone, so this is a sample and says so."""

from __future__ import annotations

from collections.abc import Sequence

from remit.governance.rightsizing.model import Draft, Level, Right, Text, admitted, ratio_of
from remit.inventory.use.model import Deed

_ALWAYS = ("hello", "auth", "ping", "quit", "reset", "client|setinfo", "client|setname", "select", "multi", "exec",
           "discard")  # fmt: skip
_POWERS = frozenset({"@all", "@admin", "@dangerous", "acl", "config", "module", "debug", "shutdown"})


class User:
    """The rules of one user, as `ACL GETUSER` words them; `Holding` and `Judge`."""

    language = "redis"

    def __init__(self, user: str, commands: Sequence[str], keys: Sequence[str], channels: Sequence[str]) -> None:
        self.user, self.commands, self.keys, self.channels = user, tuple(commands), tuple(keys), tuple(channels)

    def allows(self, deed: Deed) -> bool:
        """By rules that name the command or everything; categories are the server's to know: taken as allowing."""
        word, allowed = deed.action, False
        for rule in self.commands:
            sign, what = rule[:1], rule[1:].lower()
            if rule == "allcommands":
                sign, what = "+", "@all"
            elif rule == "nocommands":
                sign, what = "-", "@all"
            if what == "@all" or what == word or what == word.partition("|")[0]:
                allowed = sign == "+"
            elif what.startswith("@") and sign == "+":
                allowed = True
        return allowed

    def draft(self, deeds: Sequence[Deed]) -> tuple[Draft, User]:
        used = sorted({deed.action for deed in admitted(deeds) if self.allows(deed)})
        rules = tuple(dict.fromkeys(["-@all", *(f"+{each}" for each in (*_ALWAYS, *used) if self._may(each))]))
        narrower = rules if used and set(rules) != set(self.commands) else self.commands
        proposed = User(self.user, narrower, self.keys, self.channels)
        removed = tuple(
            Right(action=rule, resource=" ".join(self.keys)) for rule in self.commands
            if rule.startswith("+") and rule not in narrower
        )  # fmt: skip
        levels = {
            rule: Level.PERMISSIONS if rule[1:] in _POWERS else Level.WRITE for rule in self.commands if rule[:1] == "+"
        }
        draft = Draft(
            texts=(Text(name=f"user {self.user}.acl", before=self.text(), after=proposed.text()),), removed=removed,
            commands=(proposed.text().strip(),) if removed else (), inverse=(self.text().strip(),) if removed else (),
            notes=("a list of clients shows the last command of each alone: read many of them, over the whole rhythm",),
            granted=len(levels), used=len(used), ratio=ratio_of(levels, {rule for rule in narrower if rule in levels}),
        )  # fmt: skip
        return draft, proposed

    def _may(self, command: str) -> bool:
        return (
            any(rule in ("+@all", "allcommands") for rule in self.commands)
            or f"+{command}" in self.commands
            or any(rule.startswith("+@") for rule in self.commands)
        )

    def text(self) -> str:
        """`ACL SETUSER`, which leaves passwords as they are."""
        lines = ["ACL", "SETUSER", self.user, "resetkeys", "resetchannels", *self.keys, *self.channels, *self.commands]
        return " \\\n  ".join([" ".join(lines[:3]), *lines[3:]]) + "\n"
