"""What rotation needs: rows, a target that can hold two versions, and the places that programs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from remit.access.model import Proof, Target
from remit.access.rotation.model import ConsumerSpec, Login, Mode, Plan, Run
from remit.kernel.canonical import Json
from remit.kernel.unit import Unit


class RotationRows(Protocol):
    """Rows of plans and of runs."""

    def plans(self) -> Sequence[Plan]: ...
    def plan(self, name: str) -> tuple[Plan, bytes] | None:
        """The plan and its sealed secret; empty bytes when none is known yet."""
        ...

    def put_plan(self, plan: Plan, sealed: bytes) -> None: ...
    def remove_plan(self, name: str) -> bool: ...
    def run(self, run_id: str) -> tuple[Run, bytes] | None: ...
    def runs(self, plan: str = "", *, limit: int = 50) -> Sequence[Run]:
        """The newest first."""
        ...

    def unfinished(self) -> Sequence[Run]:
        """Those that are neither done nor rolled back, the oldest first."""
        ...

    def insert_run(self, run: Run, sealed: bytes) -> None: ...
    def save_run(self, run: Run, sealed: bytes | None, *, expected: int) -> bool:
        """Replace the run whose revision is `expected`; `None` keeps what is sealed. `False` when it has another."""
        ...


class RotationUnit(Unit, Protocol):
    """A unit of work with the rows of rotation."""

    @property
    def rotations(self) -> RotationRows: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What stands against a rotation, seen before anything is changed."""

    exists: bool
    taken: bool = False
    """Whether the new login exists already."""
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of a login."""

    admitted: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Live sessions, as the target shows them."""

    old: int
    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """What happened to the version that was withdrawn: it counts only if `gone` and `proof` is `Proved`."""

    gone: bool
    sessions_ended: int
    proof: Proof


class Rotator(Protocol):
    """Replaces a standing login on one target. Every verb may be called again after a crash at any instant."""

    async def close(self) -> None: ...
    async def survey(self, old: str, new: str, mode: Mode) -> Survey: ...

    async def publish(self, old: str, new: Login, mode: Mode) -> None:
        """Make the new version count, with the rights of the old; the old one still counts but for `IN_PLACE`."""
        ...

    async def attempt(self, login: Login) -> Tried:
        """Log in as a program would. Raises `Unavailable` when the target does not answer."""
        ...

    async def use(self, old: str, new: str, mode: Mode, since: datetime, *, now: datetime) -> Use | None:
        """Live sessions of both; `None` where the target does not tell them apart."""
        ...

    async def withdraw(
        self, user: str, secret: str | None, *, keep: Login | None, mode: Mode, since: datetime
    ) -> Withdrawn:
        """End one version and its sessions, and prove it refused while `keep`, the other version, is admitted.

        A login that does not exist is withdrawn. `IN_PLACE` makes `keep` count again. Sessions that one principal
        opened before `since` are of the version that is withdrawn, where both have the same name.
        """
        ...

    async def retire(self, user: str, secret: str | None) -> Withdrawn:
        """End a login for good, with every version of it and its sessions; prove it by the one that is known."""
        ...


@runtime_checkable
class ProvesRefusal(Protocol):
    """A rotator that can try any secret of a login against its target."""

    async def refused(self, user: str, secret: str) -> Proof:
        """`Proved` when the target refuses `secret` for `user`, in its own words, and admits us; changes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Whether a consumer reads the new version; `measured` is false where a place cannot be read back."""

    ok: bool
    measured: bool = True
    detail: str = ""


class Consumer(Protocol):
    """One place, opened for one rotation. Every verb may be called again."""

    @property
    def label(self) -> str:
        """How people know it; never a secret."""
        ...

    async def capture(self) -> bytes:
        """What lies there now, to be put back; empty where it cannot be read. It is a secret."""
        ...

    def recall(self, captured: bytes) -> Mapping[str, str]:
        """`user` and `secret` as far as they can be read out of what was captured."""
        ...

    async def publish(self, login: Login) -> None: ...
    async def verify(self, login: Login) -> Seen: ...
    async def restore(self, captured: bytes, old: Login | None) -> None:
        """Put back what was captured; where that was unreadable, publish `old`."""
        ...


class ConsumerFactory(Protocol):
    """A consumer plug-in."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    def make(self, options: Mapping[str, Json], house: House) -> Consumer:
        """A consumer; nothing is opened yet. `Rejected` (`access.rotation.consumer`) for options it cannot read."""
        ...


class RotatorFactory(Protocol):
    """A target plug-in; `modes` begins with the one that is taken when a plan names none."""

    @property
    def id(self) -> str: ...
    @property
    def modes(self) -> tuple[Mode, ...]: ...
    def make(self, target: Target, secret: str) -> Rotator:
        """A rotator for `target`; nothing is opened yet."""
        ...


class House(Protocol):
    """What the installation offers to consumers."""

    async def replace_secret(self, name: str, value: bytes) -> None: ...
    async def read_secret(self, name: str) -> bytes: ...


class Places(Protocol):
    """Opens what a plan names."""

    async def rotator(self, plan: Plan) -> tuple[Rotator, Login]:
        """The target, and a login with its host, port and database but no secret."""
        ...

    def modes(self, system: str) -> tuple[Mode, ...]: ...
    def consumer(self, spec: ConsumerSpec) -> Consumer: ...
    async def healthy(self, argv: Sequence[str]) -> tuple[bool, str]:
        """Run a health command: whether it succeeded, and the end of what it printed."""
        ...
