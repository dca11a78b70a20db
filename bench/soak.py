"""`python -m bench.soak [MINUTES] [--log FILE]`: random kills, again and again; nothing may leak, and nothing may grow.

In each round tasks come and go, each with a lease on PostgreSQL and, where `redis-server` is there, one on Redis. At
random moments supervisors, all of Remit (control plane and agent), and the targets are killed by SIGKILL and come back,
and the network between is cut and mended. Then no credential may be left on a target, and no lease that has not ended.
The memory of the control plane is read after each round and compared within one life of it. At the end every lease is
revoked or failed, none of them was revoked twice, and the ledger verifies from its files, with nothing running.

REMIT_SOAK_MINUTES is the same as the argument (default 2), REMIT_SOAK_SEED chooses the moments and the victims.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.faults import Cache, Mortal, Relay
from remit.access.brokers.redis_settings import MANIFEST as REDIS
from remit.surface.cli.demo import files, shop
from remit.surface.cli.demo.outcome import NotShown, expect
from remit.surface.cli.demo.show import Narrator
from remit.surface.cli.demo.stage import Stage, set_stage

_RUNS = 8
_GROWTH = 1.15
"""From the second round of a life to a later one, the memory may grow by so much."""
_LATE = 0.8
"""In so many rounds nothing falls before the first lease; in the others what is decided and minted is hit."""
_SETTLE_SECONDS = 180.0
_CACHE_ROLE = "~task:* &task:* +@read +@write +@connection -@dangerous -@scripting -function -scan -randomkey -dbsize"


@dataclass(slots=True)
class Scene:
    """Everything that runs, and everything that may fall."""

    stage: Stage
    database: Mortal
    networks: dict[str, Relay]
    cache: Cache | None
    needs: tuple[str, ...]
    memory: list[float] = field(default_factory=list)
    """Of this life of the control plane, after each round."""
    fallen: Counter[str] = field(default_factory=Counter)

    def left(self) -> dict[str, int]:
        """How many credentials each target holds, and how many leases have not ended."""
        found = {"postgres": len(shop.run(shop.remit_roles(self.database.server)))}
        if self.cache is not None:
            found["redis"] = len(self.cache.users() or ())
        return found | {"leases": len(self.stage.admin.get("/api/v1/leases", limit=1000))}


# What falls. Each returns only when it stands again.


def fall_of_remit(scene: Scene, chance: random.Random) -> None:
    scene.stage.kill_remit()
    time.sleep(chance.uniform(0, 0.5))
    scene.stage.up()
    scene.memory.clear()


def fall_of_postgres(scene: Scene, chance: random.Random) -> None:
    scene.database.kill()
    time.sleep(chance.uniform(0, 1))
    scene.database.start()


def fall_of_redis(scene: Scene, chance: random.Random) -> None:
    if scene.cache is not None:
        scene.cache.kill()
        time.sleep(chance.uniform(0, 1))
        scene.cache.start()


def fall_of_network(scene: Scene, chance: random.Random) -> None:
    relay = scene.networks[chance.choice(sorted(scene.networks))]
    relay.cut()
    time.sleep(chance.uniform(0.1, 2))
    relay.mend()


FALLS: dict[str, Callable[[Scene, random.Random], None]] = {
    "remit": fall_of_remit,
    "postgres": fall_of_postgres,
    "redis": fall_of_redis,
    "network": fall_of_network,
}


@contextmanager
def scene() -> Iterator[Scene]:
    """Serve, with a task `bench` and targets behind networks that can be cut."""
    with set_stage(Narrator(Console(quiet=True)), keep=False) as stage, ExitStack() as stack:
        shop.run(shop.build(stage.server, secrets.token_urlsafe(18)))
        shop.run(_careful(stage))
        files.write_policy(stage.tree / "policy/shop.cedar")
        stage.up()
        networks = {"postgres": Relay(stage.server.port)}
        url = f"postgres://{stage.server.user}@127.0.0.1:{networks['postgres'].port}/{shop.DATABASE}"
        _target(stage, "postgres", "shop", url, "report=app_report", stage.server.password)
        needs, cache = ["postgres://shop?role=report"], None
        if shutil.which("redis-server"):
            folder = stage.root / "cache"
            folder.mkdir()
            cache = Cache(folder, REDIS.needs[0].split(" >… ")[1])
            stack.callback(cache.kill)
            cache.start()
            networks["redis"] = Relay(cache.port)
            url = f"redis://remit_broker@127.0.0.1:{networks['redis'].port}"
            _target(stage, "redis", "cache", url, f"write={_CACHE_ROLE}", cache.password)
            needs.append("redis://cache?role=write")
        for relay in networks.values():
            stack.callback(relay.close)
        stage.cli("policy", "apply", str(stage.tree / "policy"))
        sleep = shutil.which("sleep")
        assert sleep is not None
        stage.cli("task", "add", "bench", "--", sleep)
        words = tuple(word for need in needs for word in ("--need", need))
        yield Scene(stage, Mortal(stage.server, stack), networks, cache, ("--task", "bench", *words, "--", sleep))


async def _careful(stage: Stage) -> None:
    # As people run it: what was answered is on disk.
    async with shop.admin(stage.server) as connection:
        await connection.execute("ALTER SYSTEM SET synchronous_commit = 'on'")
        await connection.execute("SELECT pg_reload_conf()")


def _target(stage: Stage, system: str, name: str, url: str, role: str, password: str) -> None:
    stage.cli(
        "target", "add", system, "--name", name, "--url", url, "--role", role, "--password-stdin",
        stdin=f"{password}\n",
    )  # fmt: skip


def play_round(scene: Scene, chance: random.Random) -> str:
    """Tasks and falls; then nothing may be left. Returns the line of the log."""
    runs = [scene.stage.start_run(*scene.needs, f"{chance.uniform(0.2, 3):.2f}", quiet=True) for _ in range(_RUNS)]
    doomed = chance.sample(runs, chance.randint(0, 3))
    later = [threading.Timer(chance.uniform(0.2, 1.5), run.send_signal, (signal.SIGKILL,)) for run in doomed]
    victims = [chance.choice(list(FALLS)) for _ in range(chance.randint(1, 3))]
    if chance.random() < _LATE:
        active = scene.stage.admin.get
        scene.stage.until("a lease is there to be lost", lambda: active("/api/v1/leases"), seconds=60, every=0.02)
    for timer in later:
        timer.start()
    for victim in victims:
        time.sleep(chance.uniform(0, 0.8))
        FALLS[victim](scene, chance)
    begun = time.monotonic()
    for timer in later:
        timer.join()
    for run in runs:
        _wait(run)
    _nothing_left(scene)
    scene.fallen.update({"supervisor": len(doomed), **Counter(victims)})
    scene.memory.append(_resident_megabytes(scene.stage.remit_pid))
    if len(scene.memory) > 2:
        expect(scene.memory[-1] <= scene.memory[1] * _GROWTH, f"memory stays flat within a life: {scene.memory} MB")
    took = time.monotonic() - begun
    fell = ", ".join([f"{len(doomed)} supervisors", *victims])
    return f"{len(runs)} tasks; fell: {fell}; nothing left after {took:.1f} s; {scene.memory[-1]:.0f} MB"


def _wait(run: subprocess.Popen[str]) -> None:
    try:
        run.wait(120)
    except subprocess.TimeoutExpired:
        raise NotShown("a task that ended was never answered") from None


def _nothing_left(scene: Scene) -> None:
    try:
        scene.stage.until("nothing is left", lambda: not any(scene.left().values()), seconds=_SETTLE_SECONDS)
    except NotShown as late:
        raise NotShown(f"{late}: {scene.left()}; {_standing(scene)}") from None


def _standing(scene: Scene) -> str:
    """How the leases stand that have not ended, and the last words of the control plane."""
    rows = scene.stage.admin.get("/api/v1/leases")
    leases = [
        f"{row['target']} {row['state']} after {row.get('attempts', '?')} attempts: {row.get('trouble', '')}"
        for row in rows
    ]
    words = (scene.stage.root / "remit.log").read_text(errors="replace").splitlines()[-12:]
    return "; ".join(sorted(set(leases))[:10]) + "\n" + "\n".join(words)


def main(minutes: float, log: Path | None) -> int:
    """Soak; 0 when nothing leaked."""
    seed = os.environ.get("REMIT_SOAK_SEED", "remit")
    say = _Log(log)
    say(f"soak of {minutes:g} minutes, seed `{seed}`, {_RUNS} tasks a round")
    chance, begun, rounds = random.Random(seed), time.monotonic(), 0
    try:
        with scene() as made:
            while rounds == 0 or time.monotonic() < begun + minutes * 60:
                line = play_round(made, chance)
                rounds += 1
                elapsed = divmod(int(time.monotonic() - begun), 60)
                say(f"{elapsed[0]:02}:{elapsed[1]:02} round {rounds}: {line}")
            summary = _judge(made, rounds)
    except NotShown as leaked:
        say(f"FAILED in round {rounds + 1}: {leaked}")
        return 1
    for line in summary:
        say(line)
    return 0


def _judge(scene: Scene, rounds: int) -> list[str]:
    stage, left = scene.stage, scene.left()
    leases = stage.admin.get("/api/v1/summary")["leases"]
    expect(set(leases) <= {"revoked", "failed"}, f"every lease came to its end: {leases}")
    expect(sum(leases.values()) >= rounds, f"there were leases to lose: {leases}")
    twice = [lease for lease, times in _revocations(stage).items() if times > 1]
    expect(not twice, f"nothing was revoked twice: {twice[:5]}")
    expect(not any(left.values()), f"no credential is left: {left}")
    stage.stop_remit()
    verified = stage.ask("ledger", "verify")
    return [
        f"{rounds} rounds; fell: " + ", ".join(f"{name} {times} times" for name, times in sorted(scene.fallen.items())),
        f"leases: {', '.join(f'{count} {state}' for state, count in sorted(leases.items()))}; none revoked twice",
        "unknown credentials left: " + ", ".join(f"{left[name]} on {name}" for name in left if name != "leases"),
        f"ledger verified with nothing running: {verified['size']} entries, root {verified['root'][:16]}",
    ]


def _revocations(stage: Stage) -> Counter[str]:
    told: Counter[str] = Counter()
    before: dict[str, int] = {}
    while entries := stage.admin.get("/api/v1/ledger/entries", type="access.lease.revoked", limit=1000, **before):
        told.update(each["subject"] for each in entries)
        before = {"before": entries[-1]["leaf"]}
        if before["before"] == 0:
            break
    return told


class _Log:
    """Says a line to whoever watches, and appends it to the file at once: a kill of the soak keeps what it saw."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            path.write_text("")

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(line + "\n")


def _resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel tells the memory of a process")


if __name__ == "__main__":
    words = argparse.ArgumentParser(prog="python -m bench.soak")
    words.add_argument("minutes", nargs="?", type=float, default=float(os.environ.get("REMIT_SOAK_MINUTES", "2")))
    words.add_argument("--log", type=Path, help="write what is said to this file too")
    given = words.parse_args()
    raise SystemExit(main(given.minutes, given.log))
