"""What `remit doctor` asks the running control plane: each line passes, fails, or could not be measured."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit.kernel.errors import RemitError

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane


def line(outcome: str, title: str, detail: str = "", next_step: str = "") -> dict[str, str]:
    """One line: `pass`, `fail` or `unmeasured`."""
    return {"outcome": outcome, "title": title, "detail": detail, "next_step": next_step}


async def examine_control(control: ControlPlane) -> list[dict[str, str]]:
    """Every check, worst news included; a check that cannot be made says so."""
    found = [line("pass", "control plane answers", f"installation {control.instance}")]
    found += _ledger(control)
    found += _workers(control)
    found += _boundary(control)
    found += await _search(control)
    found += await _policies(control)
    what = "state, owner, tier or purpose"
    disputed = [f"{what} of `{each}` was changed in the database" for each in control.standing.disputed[:20]]
    forged = (*control.trust.problems, *control.federation.problems, *control.feed.refused, *_agents(control))
    forged = (*forged, *control.enforcers.problems, *control.tokens.problems)
    forged = (
        *forged,
        *(f"secret `{name}` was not kept by this installation" for name in await control.secrets.forged()),
    )
    for problem in (*forged, *disputed):
        found.append(
            line("fail", "everything that carries authority is signed", problem, "compare with `remit ledger ls`")
        )
    found += _federation(control)
    found += _authorities(control)
    for target in await control.targets.list():
        found += await _target(control, target.name)
    return found


def _agents(control: ControlPlane) -> list[str]:
    refused = control.agents.registry.refused
    return [f"agent `{one}` was not admitted by this installation, or ended since" for one in refused]


def _workers(control: ControlPlane) -> list[dict[str, str]]:
    workers = control.decide_workers()
    if not workers:
        return []
    serving = [one for one in workers if one["serving"]]
    starts = sum(one["starts"] for one in workers)
    detail = f"{len(serving)} of {len(workers)}, started {starts} times"
    if len(serving) < len(workers):
        return [
            line("fail", "decision workers serve", detail, "see the server's log; the others and it serve meanwhile")
        ]
    return [line("pass", "decision workers serve", detail)]


def _ledger(control: ControlPlane) -> list[dict[str, str]]:
    if control.sequencer.failed is not None:
        return [line("fail", "ledger is signed", str(control.sequencer.failed), "free space for the data directory")]
    return [
        line("pass", "ledger is signed", f"{control.sequencer.size:,} entries"),
        line(
            "unmeasured",
            "ledger has a witness",
            "nobody else keeps its checkpoints",
            "keep copies of DIR/ledger/checkpoint elsewhere",
        ),
    ]


def _boundary(control: ControlPlane) -> list[dict[str, str]]:
    notice = control.boundary_notice()
    if notice:
        return [line("fail", "people and machines are apart", notice, "run Remit under a user of its own")]
    return [line("pass", "people and machines are apart", f"Remit runs as uid {os.geteuid()}")]


async def _search(control: ControlPlane) -> list[dict[str, str]]:
    """What PostgreSQL lacks for its index of texts. Without it all is found, and slowly."""
    from remit.storage.inventory_trigrams import missing

    lacking = await control.store.read(lambda unit: missing(unit.conn))
    if lacking is None:
        return []
    return [line("fail", "the registry is searched by an index", lacking.detail, lacking.next_step)]


def _federation(control: ControlPlane) -> list[dict[str, str]]:
    return [
        line(
            "fail",
            f"the bundle of {each.relation.trust_domain} is current",
            each.polling.error or "it was not fetched for several intervals",
            f"`remit federation refresh {each.relation.trust_domain}` tries it now",
        )
        if each.stale
        else line("pass", f"the bundle of {each.relation.trust_domain} is current")
        for each in control.federation.partners()
    ]


def _authorities(control: ControlPlane) -> list[dict[str, str]]:
    """Whether what signs has, or will have, a successor in time."""
    title, problems = "authorities have successors", control.trust.authority_problems
    ring = control.trust.keeper.keyring
    signing = {one.kind.value: one for one in (ring.x509_authority, ring.jwt_authority, ring.token_authority)}
    ends = ", ".join(f"{kind} signs until {one.expires:%Y-%m-%d %H:%M} UTC" for kind, one in signing.items())
    if not problems:
        return [line("pass", title, ends)]
    return [
        line("fail", title, f"{each}; {ends}", "correct `[upstream]` in the settings, or what it names")
        for each in problems
    ]


async def _policies(control: ControlPlane) -> list[dict[str, str]]:
    persons = await control.store.read(lambda unit: unit.governance.count_active_persons())
    count = len(control.feed.cell.current().policies.policies)
    lines = [
        line("pass", "policies are in force", f"{count}")
        if count
        else line(
            "fail",
            "policies are in force",
            "none: everything is denied",
            "`remit policy show --starter > starter.cedar`, read it, then `remit policy apply starter.cedar`",
        )
    ]
    if persons < 2:
        lines.append(
            line(
                "fail",
                "two persons are registered",
                f"{persons}: nobody can approve what another asks for",
                "`remit people enrol NAME --public-key …`",
            )
        )
    else:
        lines.append(line("pass", "two persons are registered", f"{persons}"))
    return lines


async def _target(control: ControlPlane, name: str) -> list[dict[str, str]]:
    try:
        broker = await control.brokers.broker(name)
        checks = await broker.check()
    except RemitError as error:
        return [line("fail", f"target {name} answers", error.message, error.next_step)]
    return [
        line("pass" if each.ok else "fail", f"target {name}: {each.title}", each.detail, each.next_step)
        for each in checks
    ]
