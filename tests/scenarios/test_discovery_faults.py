"""What wants to break discovery as a whole, on a running installation: it ends, stays small, reports, retires nothing.

1. A tree of traps (bombs, 10 GB of nothing, cycles, pipes, devices, packs cut off, documents that expand) is read to
   its end in bounded memory, and the secrets that lie among them are found.
2. A forge that fails half-way retires nothing.
3. Two runs over one source at once, a run whose worker or whose control plane is killed: nothing is lost or doubled.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from github_server import TOKEN, Forge, acme, forge_server
from installation import REMIT, Installation, installation
from prepared_machine import commit, git, word

MOST_GROWTH_KIB = 700 * 1024
NAMES = ("with\nnewline", "\x1b[31mred\x1b[0m", "tab\there", "\u202eright-to-left", b"\xff\xfe-bytes")
BILLION_YAML = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(12)
)
BILLION_XML = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(12))
    + "]><configuration><password>&m;</password></configuration>"
)
EXTERNAL_XML = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/machine-id">]>'
    "<settings><servers><server><password>&e;</password></server></servers></settings>"
)


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with installation() as running:
        yield running


def secret_file(folder: Path | bytes, user: str, secret: str) -> None:
    """An `.env` with one login."""
    text = f"DATABASE_URL=postgres://{user}:{secret}@db.test:5432/x\n".encode()
    path = os.path.join(os.fsencode(folder), b".env")
    Path(os.fsdecode(path)).write_bytes(text)


def bomb(inner: bytes, depth: int) -> bytes:
    """A zip of zips, each of ten copies, around 50 MB of nothing."""
    for _ in range(depth):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(10):
                archive.writestr(f"{number}.zip", inner)
        inner = packed.getvalue()
    return inner


def traps(root: Path) -> dict[str, str]:
    """Write them, with a secret beside each; user → secret."""
    planted: dict[str, str] = {}
    flat = io.BytesIO()
    with zipfile.ZipFile(flat, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", b"0" * 50_000_000)
    documents: dict[str, dict[str, bytes]] = {
        "bombs": {"bomb.zip": bomb(flat.getvalue(), 5)},
        "documents": {
            "docker-compose.yml": BILLION_YAML.encode(), "values.yaml": BILLION_YAML.encode(),
            "deep.yaml": b"- " * 50_000, "deep.json": b"[" * 200_000, "main.tf": b"a = " + b"[" * 50_000,
            "web.config": BILLION_XML.encode(), "settings.xml": EXTERNAL_XML.encode(),
            "merge.yaml": b"a: &a {k: v}\nb:\n  <<: " + b"[" + b"*a," * 50_000 + b"]\n",
        },
        "encodings": {
            "config.ini": b"[x]\npassword=\xff\xfe\x80\x00\xc3\x28\n", "settings.json": b"\xff\xfe{\x00",
            "long.env": b"KEY=" + b"A" * 5_000_000, "half.pem": b"-----BEGIN PRIVATE KEY-----\nMII",
            "nul.yaml": b"\0" * 100_000,
        },
    }  # fmt: skip
    for folder, files in documents.items():
        (root / folder).mkdir()
        for name, data in files.items():
            (root / folder / name).write_bytes(data)
    for folder in ("sparse", "cycle", "special", "pack", "closed"):
        (root / folder).mkdir()
    with (root / "sparse" / "huge.log").open("wb") as file:
        file.truncate(10 * 1024**3)
        file.seek(0, os.SEEK_END)
        planted["trap_log"] = word()
        file.write(f"\nconnect postgres://trap_log:{planted['trap_log']}@db.test:5432/x\n".encode())
    (root / "cycle" / "again").symlink_to("..")
    (root / "cycle" / "self").symlink_to("self")
    (root / "cycle" / "root").symlink_to("/")
    os.mkfifo(root / "special" / ".env.local")
    if os.geteuid() == 0:
        os.mknod(root / "special" / "id_rsa", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    (root / "closed" / "credentials").write_text("x")
    (root / "closed" / "credentials").chmod(0)
    for number, name in enumerate(NAMES):
        there = os.path.join(os.fsencode(root), name if isinstance(name, bytes) else name.encode())
        os.mkdir(there)
        planted[f"trap_name_{number}"] = word()
        secret_file(there, f"trap_name_{number}", planted[f"trap_name_{number}"])
    for folder in (*documents, "sparse", "cycle", "special", "pack", "closed"):
        planted[f"trap_{folder}"] = word()
        secret_file(root / folder, f"trap_{folder}", planted[f"trap_{folder}"])
    _cut_pack(root / "pack")
    return planted


def _cut_pack(tree: Path) -> None:
    git(tree, "init", "-q", "-b", "main")
    for number in range(20):
        (tree / f"{number}.txt").write_text(os.urandom(3000).hex())
    git(tree, "add", "-A")
    commit(tree, "x")
    git(tree, "repack", "-q", "-a", "-d")
    (pack,) = (tree / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    os.truncate(pack, pack.stat().st_size // 2)


def peak_kib(pid: int) -> int:
    """The most memory that a process and its children ever held."""
    return sum(_peak(each) for each in (pid, *children(pid)))


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def children(pid: int) -> list[int]:
    """Processes that `pid` started, and theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += [int(entry.name), *children(int(entry.name))]
    return found


@pytest.fixture(scope="module")
def trapped(house: Installation, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Any, int, str]:
    """What was planted, what the command said, by how much the server grew, and what a person saw."""
    root = tmp_path_factory.mktemp("traps")
    planted = traps(root)
    assert house.process is not None
    most, over = [peak_kib(house.process.pid)], threading.Event()
    before = most[0]

    def watch(pid: int) -> None:
        while not over.wait(0.1):
            most.append(peak_kib(pid))

    watching = threading.Thread(target=watch, args=(house.process.pid,))
    watching.start()
    try:
        said = house.json("discover", "files", root)
    finally:
        over.set()
        watching.join()
    return planted, said, max(most) - before, house.cli("ls").stdout + house.cli("findings", code=None).stdout


Trapped = tuple[dict[str, str], Any, int, str]


def test_every_secret_beside_a_trap_is_found(house: Installation, trapped: Trapped) -> None:
    known = {row["name"].rpartition(":")[2] for row in house.json("ls") if row["record"] == "identity"}
    assert set(trapped[0]) - known == set()


def test_what_could_not_be_read_is_said(trapped: Trapped) -> None:
    said = trapped[1]
    assert said["skipped"] > 0
    assert {row["reason"] for row in said["skipped_sample"]} & {"too-large", "malformed"}


def test_memory_stays_bounded(trapped: Trapped) -> None:
    assert trapped[2] < MOST_GROWTH_KIB


def test_no_name_reaches_the_terminal_raw(trapped: Trapped) -> None:
    assert "\x1b[31m" not in trapped[3]
    assert "\u202e" not in trapped[3]


def test_no_entity_is_fetched_and_no_value_kept(house: Installation, trapped: Trapped) -> None:
    kept = b"".join(path.read_bytes() for path in house.data.rglob("*") if path.is_file())
    assert [user for user, secret in trapped[0].items() if secret.encode() in kept] == []


def present(house: Installation) -> set[str]:
    return {row["id"] for row in house.json("ls") if row["record"] == "identity"}


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    with forge_server(
        acme("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl")
    ) as served:
        yield served


def test_a_forge_that_fails_half_way_retires_nothing(house: Installation, forge: Forge) -> None:
    arguments = ("discover", "github", "acme", "--set", f"endpoint={forge.url}", "--secret-stdin")
    house.json(*arguments, stdin=TOKEN + "\n")
    before = present(house)
    path = "/repos/acme/site/keys"
    forge.faults += [(path, 500, {})] * 20
    try:
        house.cli(*arguments, code=None, stdin=TOKEN + "\n")
    finally:
        forge.faults.clear()
    assert present(house) == before


def estate(root: Path, many: int) -> None:
    for number in range(many):
        folder = root / f"app{number}"
        folder.mkdir()
        secret_file(folder, f"{root.name}_{number}", word())
        (folder / "code.py").write_text("x = 1\n" * 4000)


def start(house: Installation, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*REMIT, *arguments, "--format", "json"], env=house.env, cwd=house.root, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_two_runs_of_one_source_at_once(house: Installation, tmp_path: Path) -> None:
    root = tmp_path / "both"
    root.mkdir()
    estate(root, 60)
    runs = [start(house, "discover", "files", str(root)) for _ in range(2)]
    ended = [(run.communicate(timeout=60), run.returncode) for run in runs]
    whole = [json.loads(out)["facts"]["identity"] for (out, _), code in ended if code == 0]
    assert whole, ended
    users = [
        row["title"] for row in house.json("ls") if row["record"] == "identity" and row["title"].startswith("both_")
    ]
    assert len(users) == len(set(users)) == 60


@pytest.mark.parametrize("whom", ["control plane", "its processes"])
def test_a_scan_that_is_killed_loses_nothing(tmp_path: Path, whom: str) -> None:
    root = tmp_path / "cut"
    root.mkdir()
    estate(root, 40)
    with installation() as house:
        house.cli("discover", "files", root)
        before = present(house)
        (root / "big").mkdir()
        estate(root / "big", 400)
        run = start(house, "discover", "files", str(root))
        assert house.process is not None
        _kill(house, whom)
        run.communicate(timeout=60)
        assert before <= present(house)
        done = house.json("discover", "files", root)
        assert done["facts"]["identity"] >= 440
        assert before <= present(house)


def _kill(house: Installation, whom: str) -> None:
    assert house.process is not None
    time.sleep(0.7)  # the scan is under way, wherever it is: each moment is as good as any other
    if whom == "control plane":
        house.stop(signal.SIGKILL)
        house.start()
        return
    for child in children(house.process.pid):
        os.kill(child, signal.SIGKILL)
