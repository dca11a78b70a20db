"""What `remit doctor` finds out about a server that admits clients by certificate: by trying, wherever it can be tried.

A serial that no client has stands on every list: a server that admits it reads no list, or not ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.access.brokers.port import Check
from remit.access.brokers.x509_settings import MANIFEST, Role, Settings
from remit.kernel.errors import RemitError
from remit.providers.x509.folder import REFRESHED_BELOW, Folder
from remit.providers.x509.logins import Asked, Attempt, KeptOpen, Server
from remit.providers.x509.workers import leaving_workers

if TYPE_CHECKING:
    from remit.access.brokers.x509 import X509Broker

_SHORT = timedelta(seconds=2)
_ASKED_EVERY = 0.35
_AUTHORITY_ENDS_SOON = timedelta(days=30)


async def check_target(settings: Settings, folder: Folder, server: Server, broker: X509Broker) -> Sequence[Check]:
    """Every line; what depends on a server that does not answer is left out."""
    found = [await asyncio.to_thread(_list, folder), _authority(folder)]
    role = next(iter(settings.roles.values()))
    try:
        nobody = await broker.try_identity(role, "")
        found.append(Check(ok=True, title="the server answers", detail=nobody.words))
    except RemitError as error:
        return [
            *found,
            Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step),
        ]
    served = [await _role(broker, one) for one in settings.roles.values()]
    found += [
        *served,
        Check(
            ok=not nobody.admitted,
            title="nobody is served without a certificate",
            detail="whoever shows none is admitted" if nobody.admitted else "",
            next_step="nginx: `ssl_verify_client on`; PostgreSQL: `cert` in every line of pg_hba.conf that matches",
        ),
        await _reads_the_list(broker, role, folder),
    ]
    try:
        found += await (_postgres(broker) if server.speaks == "postgresql" else _nginx(broker, role, server))
    except RemitError as error:
        title = "the server can be told to read its list"
        found.append(Check(ok=False, title=title, detail=error.message, next_step=error.next_step))
    return found


def _list(folder: Folder) -> Check:
    known = folder.read_list()
    fresh = known is not None and known.next_update > min(folder.now() + REFRESHED_BELOW / 2, folder.authority.ends)
    return Check(
        ok=fresh,
        title="the list of revoked certificates is ours, and does not run out",
        detail=f"number {known.number}, good until {known.next_update:%Y-%m-%d}" if known else "there is none of ours",
        next_step="let Remit run: it writes the list anew; past its end the server refuses every client",
    )


def _authority(folder: Folder) -> Check:
    return Check(
        ok=folder.authority.ends > folder.now() + _AUTHORITY_ENDS_SOON,
        title="the target's authority does not run out",
        detail=f"good until {folder.authority.ends:%Y-%m-%d}",
        next_step="make another, and add the target anew with it",
    )


async def _role(broker: X509Broker, role: Role) -> Check:
    tried = await broker.probe(role)
    return Check(
        ok=tried.admitted,
        title=f"it admits a fresh certificate of OU={role.unit}",
        detail=tried.words,
        next_step="configure it: " + MANIFEST.needs[2],
    )


async def _reads_the_list(broker: X509Broker, role: Role, folder: Folder) -> Check:
    tried = await broker.try_identity(role, broker.probe_identity(role, serial=folder.authority.canary))
    return Check(
        ok=not tried.admitted,
        title="it refuses a serial that is on the list",
        detail=tried.words,
        next_step=f"nginx: `ssl_crl {folder.path}/clients.crl`; PostgreSQL: `ssl_crl_file`",
    )


async def _nginx(broker: X509Broker, role: Role, server: Server) -> list[Check]:
    leaving = leaving_workers(broker.nginx.master())
    tried = await broker.probe(role)
    resumed = await _resumed(broker, role, tried)
    outlives = await _outlives(broker, role, server)
    return [
        Check(
            ok=not leaving,
            title="no worker serves by an older list",
            detail=f"the process {leaving[0]} does" if leaving else "",
            next_step="set `worker_shutdown_timeout 10s`: revocations wait for it",
        ),
        Check(
            ok=not resumed,
            title="TLS sessions are not resumed",
            detail="they are: each revocation tries whether one outlives it" if resumed else "",
            next_step="`ssl_session_tickets off; ssl_session_cache off`",
        ),
        Check(
            ok=not outlives,
            title="live connections end when Remit is dead",
            detail="a connection was served after its certificate's end" if outlives else "",
            next_step="limit them: `keepalive_time 5m; keepalive_timeout 30s`; Remit ends them when it is there",
        ),
    ]


async def _resumed(broker: X509Broker, role: Role, tried: Attempt) -> bool:
    if tried.again is None:
        return False
    return (await broker.try_identity(role, "", again=tried.again)).resumed


async def _outlives(broker: X509Broker, role: Role, server: Server) -> bool:
    """Whether a connection is served after its certificate's end."""
    identity = broker.probe_identity(role, lives=_SHORT)

    def ask() -> KeptOpen | None:
        made = KeptOpen(server, Asked(path=role.path), identity)
        if made.ask():
            return made
        made.close()
        return None

    try:
        made = await asyncio.to_thread(ask)
    except OSError:
        return False
    if made is None:
        return False
    clock = asyncio.get_running_loop().time
    # The end is in whole seconds; asked all the while, for some servers close only what is idle.
    ended = clock() + _SHORT.total_seconds() + 0.1
    try:
        while clock() < ended:
            await asyncio.sleep(_ASKED_EVERY)
            if not await asyncio.to_thread(made.ask):
                return False
        return await asyncio.to_thread(made.ask)
    finally:
        made.close()


async def _postgres(broker: X509Broker) -> list[Check]:
    desk = await broker.open_desk()
    try:
        lacks, broad = await desk.rights()
    finally:
        await desk.close()
    return [
        Check(
            ok=not lacks,
            title="the administrator can end sessions and have the list read",
            detail=f"it lacks {', '.join(lacks)}" if lacks else "",
            next_step=MANIFEST.needs[-1],
        ),
        Check(
            ok=not broad,
            title="the broker holds no more than it needs",
            detail=f"it is {broad}" if broad else "",
            next_step=MANIFEST.needs[-1],
        ),
        Check(
            ok=False,
            title="live sessions end when Remit is dead",
            detail="not fail-safe: PostgreSQL looks at a certificate when a session begins, and never again",
            next_step="start Remit again: it ends what outlived it",
        ),
    ]
