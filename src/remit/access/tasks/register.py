"""Register, list and remove task definitions; find the one that a running program may use."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from remit.access.ports import AccessUnit
from remit.access.tasks.kinds import FAR
from remit.access.tasks.model import Program, Recipe, Remote, TaskDefinition
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.kernel.unit import Attester, Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_IMAGE = re.compile(r"sha256:[0-9a-f]{64}")
_PINNED_BYTES = 16_384
_MOST_SELECTORS = 32
SHORTEST_HEARTBEAT = 2
LONGEST_HEARTBEAT = 900


class Tasks:
    """The verbs on task definitions."""

    def __init__(self, *, store: Store[AccessUnit], attester: Attester) -> None:
        self._store = store
        self._attester = attester

    async def register(
        self, name: str, *, identity: str, program: Recipe, actor: str, uid: int | None = None
    ) -> TaskDefinition:
        """Bind a name and an identity to a program's bytes and the user `uid`, or to a proof; it replaces an old one.

        Raises `Rejected` (`access.task.malformed`).
        """
        _check(name, identity, program)

        def work(unit: AccessUnit) -> TaskDefinition:
            unsigned = TaskDefinition(
                name=name, identity=identity, program=program, created=unit.now, created_by=actor, uid=uid
            )
            definition = replace(unsigned, signature=self._attester.sign("task", unsigned.content()))
            replaced = unit.access.task(name)
            unit.access.put_task(definition)
            unit.record(
                "access.task.registered",
                actor=actor,
                subject=f"task:{name}",
                data={
                    "identity": identity,
                    "digest": definition.digest,
                    "program": program.as_json(),
                    "uid": uid,
                    "replaced": None if replaced is None else replaced.digest,
                },
            )
            return definition

        return await self._store.write(work)

    async def list(self) -> Sequence[TaskDefinition]:
        """All definitions whose signature verifies, by name."""
        return [one for one in await self._store.read(lambda unit: unit.access.tasks()) if self._holds(one)]

    async def remove(self, name: str, *, actor: str) -> None:
        """Forget a definition; tasks that run keep their grant until it ends. `NotFound` (`access.task.missing`)."""

        def work(unit: AccessUnit) -> None:
            if not unit.access.remove_task(name):
                raise NotFound(
                    "access.task.missing", f"no task is called `{name}`", next_step="`remit task ls` lists them"
                )
            unit.record("access.task.removed", actor=actor, subject=f"task:{name}")

        await self._store.write(work)

    async def get(self, name: str) -> TaskDefinition | None:
        """The definition of that name, if there is one and its signature verifies."""
        found = await self._store.read(lambda unit: unit.access.task(name))
        return found if found is not None and self._holds(found) else None

    async def require(self, name: str, program: Program, argv: Sequence[str]) -> TaskDefinition:
        """The definition under which this very program may run with these arguments.

        Raises `Denied`: `access.task.unknown`, or `access.task.changed` when the bytes, the path or pinned arguments
        differ. Both name the command that registers what was seen, for a person to judge.
        """
        found = await self.get(name) if _NAME.fullmatch(name) else None
        if found is None:
            raise Denied(
                "access.task.unknown",
                f"no task `{name[:80]}` is registered",
                next_step=_register_line(name, "ID", program, argv),
            )
        if isinstance(found.program, Remote):
            raise Denied(
                "access.task.kind",
                f"the task `{name}` runs elsewhere: it is of the kind `{found.program.kind}`",
                next_step=f"`remit task begin {name}` begins it",
            )
        wrong = _difference(found.program, program, argv)
        if wrong:
            raise Denied(
                "access.task.changed",
                f"{wrong} differs from what is registered as the task `{name}`",
                next_step="if the change is intended: " + _register_line(name, found.identity, program, argv),
            )
        return found

    async def require_remote(self, name: str) -> tuple[TaskDefinition, Remote]:
        """The definition of a task that runs far from here. `Denied` (`access.task.unknown`, `.kind`)."""
        found = await self.get(name) if _NAME.fullmatch(name) else None
        if found is None:
            raise Denied(
                "access.task.unknown",
                f"no task `{name[:80]}` is registered",
                next_step=f"`remit task add {shlex.quote(name[:80])} --batch --identity ID` registers one",
            )
        if not isinstance(found.program, Remote):
            raise Denied(
                "access.task.kind",
                f"the task `{name}` is a program of the control plane's machine",
                next_step="start it there with `remit run`",
            )
        return found, found.program

    def _holds(self, definition: TaskDefinition) -> bool:
        return self._attester.verify("task", definition.content(), definition.signature)


def _difference(registered: Program, seen: Program, argv: Sequence[str]) -> str:
    if registered.executable != seen.executable:
        return "the path of the program"
    if registered.sha256 != seen.sha256:
        return "the program"
    if (registered.script, registered.script_sha256) != (seen.script, seen.script_sha256):
        return "the script"
    if registered.arguments is not None and registered.arguments != tuple(argv[1:]):
        return "the argument list"
    return ""


def _register_line(name: str, identity: str, program: Program, argv: Sequence[str]) -> str:
    command = [program.script, *argv[argv.index(program.script) + 1 :]] if program.script in argv else list(argv)
    line = shlex.join(["remit", "task", "add", name[:80], "--identity", identity, "--", *command])
    return line if len(line) <= 1000 else line[:999] + "…"


def _check(name: str, identity: str, recipe: Recipe) -> None:
    wrong = (
        "its name is 1 to 80 of A-Z, a-z, 0-9, `.`, `_`, `-`"
        if not _NAME.fullmatch(name)
        else "it needs an identity"
        if not identity or len(identity) > 1000 or not identity.isprintable()
        else _wrong_remote(recipe)
        if isinstance(recipe, Remote)
        else _wrong_program(recipe)
    )
    if wrong:
        raise Rejected(
            "access.task.malformed",
            f"the task `{name[:80]}` is not well formed: {wrong}",
            next_step="`remit task add NAME --identity ID -- CMD` measures the command itself",
        )


def _wrong_remote(remote: Remote) -> str:
    attestors = {one.partition(":")[0] for one in remote.selectors}
    if remote.kind not in FAR:
        return f"its kind is one of {', '.join(FAR)}"
    if not SHORTEST_HEARTBEAT <= remote.heartbeat <= LONGEST_HEARTBEAT:
        return f"its heartbeat is {SHORTEST_HEARTBEAT} to {LONGEST_HEARTBEAT} s"
    if len(remote.selectors) > _MOST_SELECTORS or tuple(sorted(set(remote.selectors))) != remote.selectors:
        return f"it has at most {_MOST_SELECTORS} selectors, each once"
    if remote.kind in ("ci", "kubernetes") and (not remote.selectors or len(attestors) != 1):
        return "it names what proves it: selectors of one platform"
    if (remote.kind == "kubernetes" and attestors != {"k8s_psat"}) or (remote.kind == "ci" and "k8s_psat" in attestors):
        return "its selectors are not of its kind"
    if remote.images and (remote.kind != "kubernetes" or not all(_IMAGE.fullmatch(one) for one in remote.images)):
        return "images are digests, `sha256:…`, of a Kubernetes task"
    return ""


def _wrong_program(program: Program) -> str:
    hashes = (program.sha256, program.script_sha256) if program.script else (program.sha256,)
    pinned = sum(len(one.encode()) for one in program.arguments or ())
    return (
        "its program is an absolute path with a SHA-256"
        if not program.executable.startswith("/") or not all(_SHA256.fullmatch(one) for one in hashes)
        else "its pinned arguments are at most 16 KiB"
        if pinned > _PINNED_BYTES
        else ""
    )
