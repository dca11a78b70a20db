"""Remit on an SSH host: says which certificates are admitted, and ends what a lease began.

sshd asks it at every login (`AuthorizedPrincipalsCommand`), the certificate names it as forced command, and Remit's
administrator talks to it on standard input. It needs Python 3.9 or later and `ssh-keygen`, and nothing else.

    principals KEY-ID SERIAL ACCOUNT FINGERPRINT   prints the principal of a live lease, or nothing
    session PRINCIPAL [COMMAND]                     runs the command of a session, and ends all that it leaves running
    admin                                           requests on standard input and answers, a line of JSON each
    reap                                            ends sessions of leases that are over; started by `principals`
    init                                            makes the folders and an empty list of revoked certificates

sshd waits for it at every login: hence no pathlib, and imports where they are used.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from remit.providers.ssh.target.book import PRINCIPAL, Refused, State, ssh_keygen
from remit.providers.ssh.target.connections import admit, end_connections, reap, start_reaper
from remit.providers.ssh.target.processes import marks
from remit.providers.ssh.target.session import session

VERSION = 1
ACCOUNT = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
MAX_REQUEST = 4 * 1024 * 1024
MAX_LEASES = 50_000

Request = Mapping[str, Any]


def serve(state: State, request: Request) -> dict[str, Any]:
    verb = request.get("verb")
    if verb == "hello":
        return hello(state)
    if verb == "put":
        with state.locked():
            return {"said": [put(state, lease) for lease in request["leases"]]}
    if verb == "renew":
        with state.locked():
            return {"kept": [name for name in _names(request) if renew(state, name, int(request["expires"]))]}
    if verb == "settle":
        return settle(state, set(_names(request)))
    if verb == "revoke":
        return revoke(state, request)
    if verb == "list":
        return {"names": sorted({*state.leases(), *state.noted()})}
    raise Refused("verb", "unknown verb")


def hello(state: State) -> dict[str, Any]:
    with open(state.authority) as file:
        authority = " ".join(file.read().split()[:2])
    ssh_keygen("-Q", "-l", "-f", state.krl)
    return {
        "version": VERSION,
        "authority": authority,
        "accounts": sorted(state.accounts()),
        "root": os.geteuid() == 0,
        "marked": bool(marks(os.getpid())),
        "time": int(time.time()),
    }


def put(state: State, lease: Request) -> str:
    name, account = str(lease["principal"]), str(lease["account"])
    if not PRINCIPAL.fullmatch(name) or not ACCOUNT.fullmatch(account):
        raise Refused("malformed", "no principal or no account")
    if not FINGERPRINT.fullmatch(str(lease["fingerprint"])) or not 0 < int(lease["serial"]) < 1 << 63:
        raise Refused("malformed", "no fingerprint or no serial")
    if account not in state.accounts():
        return "account"
    try:
        pwd.getpwnam(account)
    except KeyError:
        return "account"
    if state.gone(name) is not None:
        return "gone"
    if state.lease(name) is None and len(state.leases()) >= MAX_LEASES:
        raise Refused("full", "too many leases")
    state.keep(
        name,
        {
            "account": account,
            "serial": int(lease["serial"]),
            "fingerprint": str(lease["fingerprint"]),
            "expires": int(lease["expires"]),
            "until": int(lease["until"]),
        },
    )
    return "ok"


def renew(state: State, name: str, expires: int) -> bool:
    lease = state.lease(name)
    if lease is None or state.gone(name) is not None:
        return False
    state.keep(name, dict(lease, expires=expires))
    return True


def settle(state: State, names: set[str]) -> dict[str, Any]:
    """Wait until the logins that tried these are over."""
    until = time.monotonic() + 3
    while names & state.noted().keys() and time.monotonic() < until:
        time.sleep(0.003)
    return {}


def revoke(state: State, request: Request) -> dict[str, Any]:
    orders = {str(one["principal"]): int(one["serial"]) for one in request["orders"]}
    if any(not PRINCIPAL.fullmatch(name) for name in orders):
        raise Refused("malformed", "no principal")
    with state.locked():
        # The reaper may be faster than we are from here on.
        before = {name: len(pids) for name, pids in state.noted().items()}
        buried = {name: state.bury(name, serial, int(request["until"])) for name, serial in orders.items()}
        state.write_krl()
        said = [put(state, probe) for probe in request.get("probes", ())]
    ended, left = end_connections(state, set(orders), 10)
    return {
        "probes": said,
        "orders": {
            name: {
                "account": gone["account"],
                "known": gone["known"],
                "ended": max(before.get(name, 0), ended.get(name, 0)),
                "left": name in left,
            }
            for name, gone in buried.items()
        },
    }


def _names(request: Request) -> list[str]:
    names = [str(name) for name in request["names"]]
    if any(not PRINCIPAL.fullmatch(name) for name in names):
        raise Refused("malformed", "no principal")
    return names


def admin(state: State) -> int:
    """Answer line by line until the administrator hangs up."""
    while text := sys.stdin.readline(MAX_REQUEST + 1):
        sys.stdout.write(json.dumps(dict(answer(state, text), remit=VERSION)) + "\n")
        sys.stdout.flush()
        # Somebody may have ended the reaper: the next request finds out, be there a login or not.
        with contextlib.suppress(OSError):
            if state.noted():
                start_reaper(state)
        if len(text) > MAX_REQUEST:
            break
    return 0


def answer(state: State, text: str) -> dict[str, Any]:
    try:
        if len(text) > MAX_REQUEST:
            raise Refused("long", "the request is too long")
        return serve(state, json.loads(text))
    except Refused as refused:
        return {"error": refused.code, "words": str(refused)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"error": "malformed", "words": "the request is not understood"}
    except OSError as error:
        return {"error": "host", "words": f"{error.strerror}: {error.filename}"}


def main(words: list[str]) -> int:
    folder = "/var/lib/remit-ssh"
    if words[:1] == ["--state"]:
        folder, words = words[1], words[2:]
    os.umask(0o022)
    if words[:1] == ["session"] and len(words) in (2, 3):
        return session(words[1], words[2] if len(words) > 2 else None)
    state = State(folder)
    if words[:1] == ["principals"] and len(words) == 5:
        admit(state, *words[1:])
    elif words == ["admin"]:
        return admin(state)
    elif words == ["reap"]:
        reap(state)
    elif words == ["init"]:
        state.init()
    else:
        sys.stderr.write("not understood\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
