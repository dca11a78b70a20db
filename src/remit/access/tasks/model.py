"""A task's definition: its name, its identity, and what may run under it: bytes of here, or a proof from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

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
class Remote:
    """What may run far from here: whoever proves all of `selectors`, or has an SVID of the task's identity."""

    kind: str
    """`ci`, `kubernetes`, `agent` or `batch`."""
    selectors: tuple[str, ...] = ()
    """Sorted; as attestors give them: `github:repository:acme/billing`."""
    images: tuple[str, ...] = ()
    """Kubernetes: digests (`sha256:…`), one of which each container of the pod runs; empty leaves that open."""
    heartbeat: int = 60
    """Seconds of silence after which a run has ended."""

    def as_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind,
            "selectors": list(self.selectors),
            "images": list(self.images),
            "heartbeat": self.heartbeat,
        }


Recipe: TypeAlias = Program | Remote


def what_runs(recipe: Recipe) -> str:
    """What runs, for a person: the path of a program, or what its run proves."""
    if isinstance(recipe, Program):
        return recipe.script or recipe.executable
    return f"{recipe.kind}: {', '.join(recipe.selectors) or 'by an SVID of its identity'}"


def recipe_from(said: Mapping[str, Any]) -> Recipe:
    """Read what `as_json` of either wrote."""
    fields = dict(said)
    if "kind" in fields:
        return Remote(**{**fields, "selectors": tuple(fields["selectors"]), "images": tuple(fields["images"])})
    arguments = fields.pop("arguments")
    return Program(**fields, arguments=None if arguments is None else tuple(arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """A registered task. It counts only while its signature verifies."""

    name: str
    identity: str
    program: Recipe
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
