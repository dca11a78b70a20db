"""A task's definition: its name, its identity, and the bytes that may run under it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from remit.kernel.canonical import Json, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a command executes, measured from open files. Hashes are 64 lower-case hexadecimal digits."""

    executable: str
    """Absolute path of the file that is executed, links resolved; for a script its interpreter."""
    sha256: str
    script: str = ""
    """Absolute path of the script, empty where there is none."""
    script_sha256: str = ""
    arguments: tuple[str, ...] | None = None
    """Pinned arguments; `None` leaves them free. An interpreter without a script is pinned."""

    def as_json(self) -> dict[str, Json]:
        return {
            "executable": self.executable,
            "sha256": self.sha256,
            "script": self.script,
            "script_sha256": self.script_sha256,
            "arguments": None if self.arguments is None else list(self.arguments),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """A registered task. It counts only while its signature verifies."""

    name: str
    identity: str
    program: Program
    created: datetime
    created_by: str
    signature: str = ""
    uid: int | None = None
    """The only user who may run it; `None` leaves that to policy, which sees `unix:uid:…` among the selectors."""

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over what an approver of a grant answers for."""
        user: dict[str, Json] = {} if self.uid is None else {"uid": self.uid}
        return digest({"name": self.name, "identity": self.identity, "program": self.program.as_json(), **user})

    def content(self) -> dict[str, Json]:
        """What is signed."""
        return {"digest": self.digest, "created_by": self.created_by}
