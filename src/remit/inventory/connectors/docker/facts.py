"""Dockerfiles, image configurations and running containers → workloads, what they hold, and how they leave their walls.

Spec: Dockerfile reference (ENV, ARG, USER, FROM, line continuation); Docker Engine API 1.41, "ContainerInspect".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from remit.inventory.connectors.files.environment import record_settings
from remit.inventory.connectors.files.formats import Setting, decode
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import Autonomy, IdentityKind, Relation, Severity
from remit.kernel.ids import Name

_INSTRUCTION: Final = re.compile(r"\s*(ENV|ARG|USER|FROM|LABEL)\s+(.*)", re.I | re.DOTALL)
_POWERS: Final = frozenset({"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "DAC_READ_SEARCH", "SYS_RAWIO", "BPF"})
_SOCKETS: Final = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")


def instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, instruction, rest) of those that matter here, continued lines joined."""
    start, joined = 0, ""
    for number, line in enumerate(text.splitlines()[:20_000], 1):
        if not joined:
            start = number
        if line.strip().startswith("#"):
            continue
        joined += line.rstrip()
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        if found := _INSTRUCTION.match(joined):
            yield start, found.group(1).upper(), found.group(2).strip()
        joined = ""


def _pairs(rest: str, line: int) -> list[Setting]:
    """`A=b C="d"`, or the old form `A b`."""
    key, space, value = rest.partition(" ")
    if "=" not in key and space:
        return [Setting("", key, value.strip(), line)]
    try:
        words = shlex.split(rest)
    except ValueError:
        words = rest.split()
    return [Setting("", *word.partition("=")[::2], line) for word in words if "=" in word]


def read_dockerfile(sheet: SystemSheet) -> None:
    """Record the image that a Dockerfile makes: secrets that every layer keeps, and as whom it runs."""
    at = sheet.file.repository
    local = f"{at.slug}/{sheet.file.within_repository}" if at and at.slug else sheet.file.path
    of = sheet.identity(
        sheet.name("docker", at.forge if at and at.slug else sheet.file.host, "dockerfile", local),
        IdentityKind.WORKLOAD, f"image of {sheet.file.name}", attributes={"autonomy": Autonomy.AUTONOMOUS.value},
    )  # fmt: skip
    user, settings = "", []
    for line, word, rest in instructions(decode(sheet.file.data)):
        if word == "FROM":
            user = ""  # of the last stage
        elif word == "USER":
            user = rest.partition(":")[0]
        elif word in ("ENV", "ARG"):
            settings += _pairs(rest, line)
    record_settings(sheet, settings, holders=[of])
    if not user or user in ("root", "0"):
        sheet.finding(
            "runs-as-root", Severity.LOW, f"the image of {sheet.file.name} runs as root",
            "what breaks out of the program is root in the container", "add `USER` with an account of its own",
            subject=of,
        )  # fmt: skip


def read_image(sheet: SystemSheet, image: Mapping[str, Any]) -> None:
    """Record an image by its configuration: environment, labels, user, and what its history gave away."""
    tag, config = str(image.get("tag", "image")), image.get("config") or {}
    registry = tag.partition("/")[0] if "." in tag.partition("/")[0] else "docker.io"
    of = sheet.identity(
        sheet.name("oci", registry, "image", tag.partition("@")[0]), IdentityKind.WORKLOAD, f"image {tag}",
        attributes={"image": tag, "user": str(config.get("User") or "root"), "created": str(image.get("created") or ""),
                    "settings": ", ".join(pair.key for pair in _environment(config.get("Env")))},
    )  # fmt: skip
    record_settings(sheet, _environment(config.get("Env")), holders=[of])
    labels = config.get("Labels") or {}
    record_settings(sheet, [Setting("", str(k), str(v), 1) for k, v in labels.items()], holders=[of])
    for step in (image.get("history") or ())[:1000]:
        # `RUN |1 TOKEN=value …`: build arguments stay readable in the history.
        words = str(step.get("created_by", "")).split()
        named = [word.partition("=") for word in words if re.match(r"[A-Za-z_]\w{0,99}=.", word)]
        record_settings(sheet, [Setting("", key, value, 1) for key, _, value in named], holders=[of])


def _environment(pairs: Any) -> list[Setting]:
    listed = [str(pair).partition("=") for pair in pairs or ()]
    return [Setting("", key, value, 1) for key, _, value in listed if key not in ("PATH", "HOME", "LANG")]


def read_container(sheet: SystemSheet, found: Mapping[str, Any]) -> None:
    """Record a container of an engine: as whom it runs, what it holds, and whether it can become root of the host."""
    config, host = found.get("Config") or {}, found.get("HostConfig") or {}
    called = str(found.get("Name") or found.get("Id")).lstrip("/")
    labels = config.get("Labels") or {}
    user = str(config.get("User") or "").partition(":")[0] or "root"
    networks = ((found.get("NetworkSettings") or {}).get("Networks")) or {}
    of = sheet.identity(
        sheet.name("docker", sheet.file.host, "container", called), IdentityKind.WORKLOAD, called,
        attributes={
            "image": str(config.get("Image") or ""), "user": user, "created": str(found.get("Created") or ""),
            "service": str(labels.get("com.docker.compose.service") or ""), "networks": ", ".join(map(str, networks)),
            "settings": ", ".join(pair.key for pair in _environment(config.get("Env"))),
            "running": (found.get("State") or {}).get("Running") is True, "autonomy": Autonomy.AUTONOMOUS.value,
        },
    )  # fmt: skip
    record_settings(sheet, _environment(config.get("Env")), holders=[of])
    for network in networks:
        there = sheet.resource(sheet.name("docker", sheet.file.host, "network", str(network)), "network", str(network))
        sheet.edge(of, Relation.CAN_REACH, there, "attached to it", actions=["connect"])
    ways = list(_ways_out(found, host))
    for why in ways:
        _root(sheet, of, called, why)
    if user in ("root", "0") and not ways:
        sheet.finding(
            "runs-as-root", Severity.LOW, f"container {called} runs as root", "it is root within its walls",
            "run it with `--user`", subject=of,
        )  # fmt: skip


def _ways_out(found: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[str]:
    if host.get("Privileged") is True:
        yield "it is privileged"
    if powers := sorted(_POWERS & {str(each).removeprefix("CAP_") for each in host.get("CapAdd") or ()}):
        yield f"it has {', '.join(powers)}"
    if host.get("PidMode") == "host":
        yield "it shares the host's processes"
    for mount in found.get("Mounts") or ():
        source = str(mount.get("Source", ""))
        if source.endswith(_SOCKETS):
            yield f"it holds the engine's socket ({source})"
        elif source in ("/", "/etc", "/root", "/proc", "/var/lib/docker") and mount.get("RW") is not False:
            yield f"it may write to {source} of the host"


def _root(sheet: SystemSheet, of: Name, called: str, why: str) -> None:
    sheet.edge(of, Relation.ASSUME, sheet.account("root"), why, cut=f"docker rm -f {called}, and start it without that")
    sheet.finding(
        "container-is-root", Severity.HIGH, f"container {called} can become root of its host", why,
        f"take that away from it; `remit blast {of}` shows what it reaches", subject=of,
    )  # fmt: skip
