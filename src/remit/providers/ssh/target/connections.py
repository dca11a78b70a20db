"""Connections: sshd asks whether to admit one, and a reaper ends those whose lease is over.

INVARIANT: a connection is noted before the look that admits it, and a revocation is written before the look for
connections: one of the two sees the other.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

from remit.providers.ssh.target.book import PRINCIPAL, State
from remit.providers.ssh.target.processes import descendants, kill, members, processes, serves, started


def end_connections(state: State, names: set[str], seconds: float) -> tuple[dict[str, int], set[str]]:
    """End all that these leases run; returns connections ended of each, and those of which something is left."""
    until = time.monotonic() + seconds
    ended: dict[str, int] = {}
    while True:
        noted = {name: pids for name, pids in state.noted().items() if name in names}
        table = processes()
        for name, pids in noted.items():
            ended.setdefault(name, len(pids))
        servers = set().union(*noted.values()) if noted else set()
        doomed = members(table, servers, names)
        if not doomed:
            return ended, set()
        if time.monotonic() > until:
            return ended, set(noted) or names
        # Stopped first: what is stopped starts nothing, and its children still have it as parent.
        stopped = {pid: table[pid] for pid in doomed}
        while True:
            kill(stopped, stopped, signal.SIGSTOP)
            table = processes()
            more = members(table, servers, names)
            # Bounded: somebody else on the host may start processes that name the lease, faster than we look.
            if more <= stopped.keys() or time.monotonic() > until:
                break
            # What was stopped is ended too, though it lost its parent meanwhile and is no member any more.
            stopped = {pid: table[pid] for pid in more} | stopped
        kill(stopped, stopped, signal.SIGKILL)
        time.sleep(0.01)


def admit(state: State, key_id: str, serial: str, account: str, fingerprint: str) -> None:
    def fits() -> bool:
        lease = state.lease(key_id) if state.is_live(key_id) else None
        return lease is not None and (str(lease["serial"]), lease["account"], lease["fingerprint"]) == (
            serial,
            account,
            fingerprint,
        )

    if not PRINCIPAL.fullmatch(key_id) or not fits():
        return
    server = os.getppid()
    # INVARIANT: none but sshd's processes are noted. Where ours has ended, our parent is process 1, or another that
    # adopts: a revocation would end it, and all that it runs.
    if not serves(server):
        return
    state.note(key_id, server, started(server))
    if fits():
        start_reaper(state)
        sys.stdout.write(key_id + "\n")


def start_reaper(state: State) -> None:
    """One reaper runs on the host while connections do."""
    with open(state._in("reaper.lock"), "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
    if child := os.fork():
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, 256)
    os.chdir("/")
    os.execv(sys.executable, [sys.executable, "-IS", os.path.abspath(__file__), "--state", state.folder, "reap"])


def reap(state: State) -> None:
    """Until no connection is left: end those whose lease is over, and what ended connections left running."""
    with open(state._in("reaper.lock"), "a") as handle:
        seen: dict[tuple[str, int, int], dict[int, int]] = {}
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            while reap_once(state, seen):
                time.sleep(0.5)
            # Whoever noted a connection meanwhile found the lock held: look again without it.
            fcntl.flock(handle, fcntl.LOCK_UN)
            if not state.noted():
                return


def reap_once(state: State, seen: dict[tuple[str, int, int], dict[int, int]]) -> bool:
    """One look; whether there is anything to come back for. `seen`: what each connection was seen to run."""
    noted = state.noted()
    table = processes()
    over = {name for name in noted if not state.is_live(name)}
    if over:
        end_connections(state, over, 10)
    held: set[int] = set()
    for name, servers in noted.items():
        for server in servers:
            if server not in table:
                continue
            mine = descendants(table, {server})
            held |= mine
            was = seen.setdefault((name, server, table[server].start), {})
            was.update({pid: table[pid].start for pid in mine})
    for key in [key for key in seen if key[1] not in noted.get(key[0], ())]:
        left = {pid for pid, start in seen.pop(key).items() if pid in table and table[pid].start == start} - held
        kill(table, descendants(table, left) - held, signal.SIGKILL)
    return bool(noted)
