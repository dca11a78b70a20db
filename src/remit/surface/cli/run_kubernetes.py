"""`remit run kubernetes JOB.yaml`: the containers of a Kubernetes Job as programs of this machine, each as a task.

For trying a Job before a cluster has it: the manifest says the command, the environment, the needs and the deadline.
What a container needs stands in its environment (`REMIT_NEEDS`), as in a workflow. Images are not pulled: `command` is
found on this machine. What is not covered is refused by name before anything runs.

Spec: Kubernetes, batch/v1 Job, core/v1 Container; "Define Dependent Environment Variables" (`$(NAME)`).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit.kernel.errors import Rejected, RemitError
from remit.surface.cli.run_nested import REMIT_RUN, call, loads_code
from remit.surface.cli.run_options import REFUSED, Parser, add_places, split
from remit.surface.cli.run_report import say, say_error

MAX_FILE_BYTES = 1 << 20
TOKEN = "/var/run/secrets/tokens/remit"
_JOB = {"template", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "completions", "parallelism"}
_POD = {"containers", "initContainers", "restartPolicy", "serviceAccountName", "volumes"}
_ELSEWHERE = {"nodeSelector", "tolerations", "affinity", "securityContext", "automountServiceAccountToken"}
_CONTAINER = {"name", "image", "command", "args", "env", "workingDir", "volumeMounts"}
_IGNORED = {"imagePullPolicy", "resources", "securityContext"}
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as the program that will run."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A Job, read and found covered; `init` comes before `main`, one after the other."""

    name: str
    namespace: str
    init: tuple[Container, ...]
    main: Container
    seconds: int
    tries: int
    token: bool
    """Whether the pod asks for a projected token."""
    notes: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    """Run a Job's containers; the exit code is that of the first that failed, 125 what Remit refused."""
    head, _ = split(argv)
    parser = Parser(prog="remit run kubernetes", allow_abbrev=False, description=__doc__.partition("\n")[0])
    parser.usage_line = "remit run kubernetes JOB.yaml"
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--token", default="", help="file with the pod's projected token, shown as its proof")
    parser.add_argument("--audience", default="", help="whom that token is made out to")
    parser.add_argument("--dry-run", action="store_true", help="say what would be granted; run nothing")
    add_places(parser)
    said = parser.parse_args(head)
    given = {word.split("=")[0] for word in head}
    options = ["--data", str(said.data)] if "--data" in given else []
    options += ["--socket-dir", str(said.socket_dir)] if said.socket_dir else []
    options += ["--dry-run"] if said.dry_run else []
    try:
        job = read_job(said.manifest)
        token = said.token or (TOKEN if job.token and Path(TOKEN).is_file() else "")
        if token:
            options += ["--proof", "k8s_psat", "--proof-file", token]
            options += ["--audience", said.audience] if said.audience else []
        return _run(job, options, dry=said.dry_run)
    except RemitError as error:
        say_error(error)
        return REFUSED


def read_job(path: Path) -> Job:
    """Read a manifest of one Job. Raises `Rejected`: `surface.job.malformed`, `surface.job.not_covered`."""
    import yaml

    try:
        with path.open("rb") as file:
            documents = [each for each in yaml.safe_load_all(file.read(MAX_FILE_BYTES)) if each is not None]
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        trouble = error.strerror if isinstance(error, OSError) else "it is no YAML"
        raise _malformed(f"`{path}` cannot be read: {trouble}") from None
    jobs = [each for each in documents if isinstance(each, dict) and each.get("kind") == "Job"]
    if len(jobs) != 1 or jobs[0].get("apiVersion") != "batch/v1":
        raise _malformed(f"`{path}` does not hold one `Job` of `batch/v1`")
    meta, spec = _mapping(jobs[0].get("metadata"), "metadata"), _mapping(jobs[0].get("spec"), "spec")
    _covered(spec, _JOB, "the Job")
    for key in ("completions", "parallelism"):
        if spec.get(key, 1) != 1:
            raise _not_covered(f"`{key}: {spec[key]}`", "run it once here, or use `remit run --matrix`")
    pod = _mapping(_mapping(spec.get("template"), "template").get("spec"), "template.spec")
    _covered(pod, _POD | _ELSEWHERE, "the pod")
    tokens = _token_volumes(pod.get("volumes") or [])
    mains = [_container(each, tokens) for each in pod.get("containers") or []]
    if len(mains) != 1:
        raise _not_covered(f"a pod of {len(mains)} containers", "start one container here")
    return Job(
        name=str(meta.get("name", path.stem)),
        namespace=str(meta.get("namespace", "default")),
        init=tuple(_container(each, tokens) for each in pod.get("initContainers") or []),
        main=mains[0],
        seconds=_whole(spec.get("activeDeadlineSeconds"), 43_200, 0),
        tries=1 + _whole(spec.get("backoffLimit"), 20, 0),
        token=bool(tokens),
        notes=tuple(f"`{key}` says where a pod runs, and nothing here" for key in pod if key in _ELSEWHERE),
    )


def _container(said: Any, tokens: frozenset[str]) -> Container:
    said = _mapping(said, "container")
    name = str(said.get("name", ""))
    _covered(said, _CONTAINER | _IGNORED, f"container `{name}`")
    command = said.get("command")
    if not isinstance(command, list) or not command:
        raise _not_covered(f"container `{name}` without `command`", "write it out: the image's own is not known here")
    for mount in said.get("volumeMounts") or []:
        if mount.get("name") not in tokens:
            raise _not_covered(f"the volume `{mount.get('name')}` of container `{name}`", "use a path of this machine")
    env: dict[str, str] = {}
    for each in said.get("env") or []:
        if "valueFrom" in each:
            raise _not_covered(
                f"`valueFrom` of `{each.get('name')}` in container `{name}`",
                "declare what it needs in `REMIT_NEEDS` instead of a Secret, and write plain values out",
            )
        env[str(each.get("name"))] = expanded(str(each.get("value", "")), env)
    words = [expanded(str(word), env) for word in (*command, *(said.get("args") or []))]
    return Container(name=name, command=tuple(words), env=env, folder=str(said.get("workingDir", ".")))


def expanded(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` by its value, `$$` by `$`; a name that is not known stays as it is."""

    def replaced(found: re.Match[str]) -> str:
        return "$" if found[1] == "$" else env.get(found[2], found[0])

    return _REFERENCE.sub(replaced, text)


def _token_volumes(volumes: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    found = set()
    for each in volumes:
        sources = (each.get("projected") or {}).get("sources") or []
        if not sources or not all(set(source) == {"serviceAccountToken"} for source in sources):
            raise _not_covered(f"the volume `{each.get('name')}`", "only a projected `serviceAccountToken` is")
        found.add(str(each.get("name")))
    return frozenset(found)


def _run(job: Job, options: Sequence[str], *, dry: bool) -> int:
    for note in job.notes:
        say(f"remit: {note}")
    for container in job.init:
        if code := _tried(job, container, options, dry=dry):
            return code
    return _tried(job, job.main, options, dry=dry)


def _tried(job: Job, container: Container, options: Sequence[str], *, dry: bool) -> int:
    code = 0
    for attempt in range(1 if dry else job.tries):
        again = f", again ({attempt})" if attempt else ""
        say(f"remit: [{job.name}/{container.name}] {container.command[0]}{again}")
        code = _run_container(job, container, options, dry=dry)
        if code in (0, REFUSED):
            break
    return code


def _run_container(job: Job, container: Container, options: Sequence[str], *, dry: bool) -> int:
    declared = dict(container.env)
    needs = declared.pop("REMIT_NEEDS", "").split()
    handover = declared.pop("REMIT_HANDOVER", "file")
    task = declared.pop("REMIT_TASK", "") or f"kubernetes.{job.namespace}.{job.name}.{container.name}"
    command = list(container.command)
    if needs:
        if name := loads_code(declared):
            raise _not_covered(f"the variable `{name[:80]}` for a container with needs", "take it out: it loads code")
        words = [word for need in needs for word in ("--need", need)]
        life = ["--ttl", str(job.seconds)] if job.seconds else []
        reason = f"job {job.namespace}/{job.name}, container {container.name}"
        mine = ["--task", task[:80], *words, "--handover", handover, *life, "--reason", reason, *options]
        command = [*REMIT_RUN, *mine, "--", *command]
    elif dry:
        return 0
    env = {**os.environ, **declared}
    try:
        return call(command, env, container.folder, seconds=job.seconds)
    except FileNotFoundError as error:
        raise _malformed(f"`{error.filename}` is not on this machine") from None
    except subprocess.TimeoutExpired:
        say(f"remit: [{job.name}/{container.name}] the deadline of {job.seconds} s has passed")
        return 124


def _covered(said: Mapping[str, Any], known: set[str], what: str) -> None:
    for key in said:
        if key not in known:
            raise _not_covered(f"`{str(key)[:80]}` of {what}", "take it out, or run the Job on a cluster")


def _mapping(said: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise _malformed(f"its `{what}` is no mapping")
    return said


def _whole(said: Any, most: int, default: int) -> int:
    if said is None:
        return default
    if not isinstance(said, int) or not 0 <= said <= most:
        raise _malformed(f"`{str(said)[:40]}` is no number up to {most}")
    return said


def _malformed(why: str) -> Rejected:
    return Rejected(
        "surface.job.malformed",
        f"the Job cannot be read: {why}"[:1000],
        next_step="name a manifest of one Job whose command is on this machine",
    )


def _not_covered(what: str, instead: str) -> Rejected:
    return Rejected("surface.job.not_covered", f"{what} is not covered here"[:1000], next_step=instead)
