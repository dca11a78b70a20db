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
    found += _boundary(control)
    found += await _policies(control)
    disputed = [f"state or owner of `{each}` was changed in the database" for each in control.standing.disputed[:20]]
    for problem in (*control.trust.problems, *control.feed.refused, *disputed):
        found.append(
            line("fail", "everything that carries authority is signed", problem, "compare with `remit ledger ls`")
        )
    for target in await control.targets.list():
        found += await _target(control, target.name)
    return found


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
        return [line("fail", "people and machines are apart (A7)", notice, "run Remit under a user of its own")]
    return [line("pass", "people and machines are apart (A7)", f"Remit runs as uid {os.geteuid()}")]


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
