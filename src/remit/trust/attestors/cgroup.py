"""The cgroup attestor: in which control group a process runs, and so in which container and pod.

What keeps it honest:
- the process is held by its pidfd while `/proc/PID/cgroup` is read, in our own cgroup name space: a name space that the
  process made for itself changes what *it* sees, not what we see;
- a name proves something only where its owner could not choose it. A user or a container may own a part of the tree
  and call a group in it `docker-…`. So a name counts as a container's only when everything above it belongs to root and
  only root may write there, and of nested ones only the outermost counts;
- text that could not be a selector (not UTF-8, control characters, a removed group, a place outside our name space)
  gives none, and the evidence says so.

What it cannot see: which image a container runs, and what its runtime knows of it.

Spec: cgroups(7), /proc/PID/cgroup; cgroup_namespaces(7); proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust.model import Evidence, Selector
from remit.trust.process import Peer, boot_id

MAX_BYTES = 64 * 1024
MAX_PATHS = 16
MAX_PATH_BYTES = 4096
RUNTIMES = ("docker", "containerd", "crio", "podman")
_KEYS = {
    "path": "the absolute path of a control group that the process is in",
    "container_id": "the id of its container, 64 lower-case hexadecimal digits",
    "runtime": f"what runs the container: {', '.join(RUNTIMES)}",
    "pod_uid": "the uid of its Kubernetes pod",
}
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[^/\x00-\x1f\x7f]+)+")
_ID = "[0-9a-f]{64}"
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_POD = re.compile(rf"{_UUID}|[0-9a-f]{{32}}")
_FORMS: Mapping[str, Callable[[str], bool]] = {
    "path": lambda v: _PATH.fullmatch(v) is not None and len(v.encode()) <= MAX_PATH_BYTES,
    "container_id": lambda v: re.fullmatch(_ID, v) is not None,
    "runtime": lambda v: v in RUNTIMES,
    "pod_uid": lambda v: _POD.fullmatch(v) is not None,
}
_SCOPES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "crio",
    "libpod": "podman",
}
_SCOPE = re.compile(rf"({'|'.join(_SCOPES)})-({_ID})(?:\.scope)?")
_BARE = re.compile(_ID)
_POD_SEGMENT = re.compile(r"(?:kubepods(?:-burstable|-besteffort|-guaranteed)?-)?pod([0-9a-f_-]{32,36})(?:\.slice)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a control group's path says of a container."""

    container_id: str
    runtime: str
    """Empty where the path does not tell."""
    pod_uid: str
    """Empty outside Kubernetes."""
    at: str
    """The path down to the container's own segment."""


class CgroupAttestor:
    """Attests local processes; `proc` is the mounted procfs."""

    id = "cgroup"
    keys: Mapping[str, str] = _KEYS

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def check(self, selector: Selector) -> None:
        """Refuse a key that it does not know, or a value that it could never produce."""
        form = _FORMS.get(selector.key)
        if form is None:
            raise Rejected(
                "trust.selector.unknown",
                f"`{str(selector)[:200]}` has no key of the cgroup attestor",
                next_step=f"use one of: {', '.join(_KEYS)}",
            )
        if not form(selector.value):
            raise Rejected(
                "trust.selector.malformed",
                f"`{str(selector)[:200]}` could never match",
                next_step=f"`cgroup:{selector.key}` takes {_KEYS[selector.key]}",
            )

    def attest(self, peer: Peer, now: datetime) -> Evidence:
        """Look at the control groups of the process behind `peer`.

        Raises `Rejected` (`trust.peer.gone`) when it ended, or became another, while it was looked at.
        """
        unseen: list[str] = []
        groups = self._groups(peer.pid, unseen)
        # INVARIANT: nothing read above counts unless the very process is still there now.
        if not peer.alive():
            raise Rejected("trust.peer.gone", f"process `{peer.pid}` ended while it was looked at")
        facts: dict[str, Json] = {"pid": peer.pid, "start_ticks": peer.start_ticks, "boot_id": boot_id()}
        facts["paths"] = sorted({path for _, path in groups})
        selectors = {Selector(self.id, "path", path) for _, path in groups}
        selectors |= self._contained(groups, unseen)
        return Evidence(
            attestor=self.id, selectors=frozenset(selectors), facts=facts, unseen=tuple(unseen), observed=now
        )

    def _groups(self, pid: int, unseen: list[str]) -> list[tuple[str, str]]:
        """Hierarchy (`""` is version 2) and path of each group other than a root."""
        try:
            with (self._proc / str(pid) / "cgroup").open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            unseen.append(f"control groups: {os.strerror(error.errno or 0).lower()}")
            return []
        if len(raw) > MAX_BYTES:
            unseen.append("control groups: more text than is read")
            return []
        return read_groups(raw, unseen)

    def _contained(self, groups: Sequence[tuple[str, str]], unseen: list[str]) -> set[Selector]:
        found = [(hierarchy, inside) for hierarchy, path in groups if (inside := container_of(path)) is not None]
        if not found:
            return set()
        mounts = self._mounts()
        said = {
            (inside.container_id, inside.runtime, inside.pod_uid)
            for hierarchy, inside in found
            if hierarchy in mounts and is_roots_alone(mounts[hierarchy], inside.at)
        }
        if len(said) != 1:
            unseen.append(
                "container: its control groups name different ones"
                if said
                else "container: somebody other than root could have named its control group, or it cannot be seen"
            )
            return set()
        named = zip(("container_id", "runtime", "pod_uid"), said.pop(), strict=True)
        return {Selector(self.id, key, value) for key, value in named if value}

    def _mounts(self) -> Mapping[str, Path]:
        """Where each hierarchy is mounted as a whole, seen from our own name space."""
        try:
            text = (self._proc / "self" / "mountinfo").read_text(errors="replace")
        except OSError:
            return {}
        return read_mounts(text)


def read_groups(raw: bytes, unseen: list[str]) -> list[tuple[str, str]]:
    """The lines of `/proc/PID/cgroup`: `NUMBER:CONTROLLERS:PATH`; what cannot be a selector is noted in `unseen`.

    The kernel allows no newline in a group's name, so that a name cannot write a line of its own.
    """
    found: list[tuple[str, str]] = []
    for line in raw.split(b"\n"):
        _, first, rest = line.partition(b":")
        controllers, second, path = rest.partition(b":")
        if not first or not second or path == b"/":
            continue
        text = _text(path)
        if text is None:
            unseen.append("path: a control group has a name that cannot be a selector")
        elif len(found) == MAX_PATHS:
            unseen.append(f"path: more than {MAX_PATHS} control groups")
            break
        else:
            # Controllers that are mounted together share one hierarchy: the first names it.
            found.append((controllers.decode("ascii", "replace").partition(",")[0], text))
    return found


def container_of(path: str) -> Container | None:
    """The outermost container that a control group's path tells of; `None` when it tells of none."""
    segments, pod = path.split("/")[1:], ""
    for number, segment in enumerate(segments):
        above = segments[number - 1] if number else ""
        in_pods = any(one in ("kubepods", "kubepods.slice") for one in segments[:number])
        if in_pods and (as_pod := _pod_uid(segment)):
            pod = as_pod
            continue
        at = "/" + "/".join(segments[: number + 1])
        scope = _SCOPE.fullmatch(segment)
        if scope is not None:
            return Container(container_id=scope[2], runtime=_SCOPES[scope[1]], pod_uid=pod, at=at)
        if _BARE.fullmatch(segment) and (above == "docker" or pod):
            return Container(container_id=segment, runtime="docker" if above == "docker" else "", pod_uid=pod, at=at)
    return None


def read_mounts(text: str) -> Mapping[str, Path]:
    """Hierarchies (controller, `name=…`, or `""` for version 2) and where each is mounted from its root."""
    found: dict[str, Path] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or fields[3] != "/":
            continue
        if kind[0] == "cgroup2":
            found.setdefault("", Path(fields[4]))
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                found.setdefault(option, Path(fields[4]))
    return found


def is_roots_alone(mount: Path, path: str) -> bool:
    """Whether only root can have given every name of `path`: who names a directory may write into the one above it."""
    place = mount
    for segment in path.split("/")[1:]:
        try:
            seen = place.stat(follow_symlinks=False)
        except OSError:
            return False
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != 0 or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        place = place / segment
    return place.is_dir()


def _pod_uid(segment: str) -> str:
    found = _POD_SEGMENT.fullmatch(segment)
    uid = found[1].replace("_", "-") if found is not None else ""
    return uid if _POD.fullmatch(uid) else ""


def _text(path: bytes) -> str | None:
    if len(path) > MAX_PATH_BYTES or path.endswith(b" (deleted)"):
        return None
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return None
    return text if _PATH.fullmatch(text) else None
