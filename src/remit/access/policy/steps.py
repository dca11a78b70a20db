"""How a fact is brought about: what a person or a program does, and the command for it, by the fact's name."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remit.access.model import Decision, Obligation
from remit.access.policy.clauses import Path, Sight, dotted, shown
from remit.access.policy.remedy import OTHER, Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do. Together, the steps of an explanation would have allowed it."""

    fact: str
    """Its path, e.g. `context.attestation_age`; the kind, for an obligation or a refusal."""
    was: str
    needs: str
    """e.g. `at most 600`."""
    how: str
    command: str = ""
    """What is typed; capitals stand for what only the reader knows. Empty where no command does it."""


_FRESH: Final = ("attest again: a task is attested as it starts, a process when it asks the agent", "remit svid fetch")
_GRANT: Final = (
    "work under a grant that a person approves; `remit run` of that task uses it",
    "remit request --task {task} --need {need} --reason WHY",
)
_KEY: Final = ("bring a key: a token bound to the process's SVID (mTLS or DPoP)", "remit token fetch")
_TASK: Final = ("act within a declared task", "remit run --task {task} --need {need} -- COMMAND")
_OWNER: Final = ("have a person answer for it", "remit claim {identity}")
_RISK: Final = ("look into its incidents and findings, and close what is done", "remit incidents")
_CLASSIFY: Final = ("have the resource's facts confirmed by whoever answers for it", "")

_HOW: Final[Mapping[Path, tuple[str, str]]] = {
    ("context", "attested"): _FRESH,
    ("context", "attested_at"): _FRESH,
    ("context", "attestation_age"): _FRESH,
    ("context", "attestation_method"): ("prove it by that attestor", "remit svid fetch"),
    ("context", "selectors"): ("run where the attestor sees these selectors", "remit entry ls"),
    ("context", "step_up_at"): ("prove it a second time, in another way", "remit step-up --attest KIND"),
    ("context", "grant"): _GRANT,
    ("context", "grant_digest"): _GRANT,
    ("context", "task"): _TASK,
    ("context", "task_digest"): _TASK,
    ("context", "role"): ("ask for that role", "remit run --task {task} --need SYSTEM://TARGET?role=ROLE -- COMMAND"),
    ("context", "lease"): _TASK,
    ("context", "sender_constraint"): _KEY,
    ("context", "credential"): _KEY,
    ("context", "scope"): ("ask for a token of that scope", "remit token fetch --scope SCOPE"),
    ("context", "source_address"): ("send it from that address", ""),
    ("context", "time"): ("ask at another time", ""),
    ("context", "on_behalf_of"): ("act on behalf of that subject, by a token exchange", "remit token exchange"),
    ("context", "actors"): ("act through these actors, by a token exchange", "remit token exchange"),
    ("context", "intent"): ("have the agent's intent approved", "remit intent request FILE"),
    ("context", "tainted"): ("begin a session that has read nothing untrusted", "remit intent request FILE"),
    ("principal", "owner"): _OWNER,
    ("principal", "owner_active"): _OWNER,
    ("principal", "risk"): _RISK,
    ("principal", "quarantined"): ("have a person release it, once the cause is closed", "remit release {identity}"),
    ("principal", "state"): ("move it to another state", "remit lifecycle {identity} STATE --reason WHY"),
    ("principal",): ("make it a member of the group, where the registry reads it from", "remit show {identity}"),
    ("resource", "known"): ("let the inventory find it", "remit discover"),
    ("resource", "sensitivity"): _CLASSIFY,
    ("resource", "environment"): _CLASSIFY,
    ("resource", "owner"): _CLASSIFY,
}
_EXCEPTION: Final = (
    "have an exception approved, for a while",
    "remit exception request --control {rule} --identity {identity} --action {action} --resource {resource}"
    " --reason WHY --compensating MEASURE",
)
_OBLIGATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "fresh-attestation": _FRESH,
    "step-up": ("prove it a second time, in another way", "remit step-up --attest KIND"),
    "approval": _GRANT,
}
_BY_ENFORCER: Final = (
    "ask through an enforcement point that is registered to do this itself",
    "remit enforcer add NAME --spiffe-id ID --fulfils {kind}",
)
_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "subject-unknown": ("let the inventory know it, or register the workload", "remit entry create"),
    "revoked": ("let what was revoked count again, or use a new one", "remit restore"),
    "quarantined": ("have a person release it, once the cause is closed", "remit release {identity}"),
    "state": ("bring it back into service", "remit lifecycle {identity} active --reason WHY"),
    "stale": ("wait until the decision point hears from the control plane again", "remit doctor"),
    "grant-unknown": _GRANT,
    "grant-foreign": _GRANT,
    "grant-over": _GRANT,
    "grant-changed": _GRANT,
    "partner": ("agree on terms with the partner's trust domain", "remit federation show DOMAIN"),
    "request-malformed": ("send the request in the form of the schema", "remit policy schema"),
}


def steps_of_changes(changes: tuple[Change, ...], decision: Decision, sight: Sight) -> tuple[Step, ...]:
    """A step for each change of a remedy; facts that one step brings about together stay side by side."""
    return tuple(_of_change(change, decision, sight) for change in changes)


def step_of_obligation(obligation: Obligation, decision: Decision) -> Step:
    """How an obligation is met."""
    how, command = _OBLIGATIONS.get(obligation.kind, _BY_ENFORCER)
    return Step(
        fact=f"obligation {obligation.kind}", was="not met", needs=obligation.detail or "met", how=how,
        command=_filled(command, decision, kind=obligation.kind),
    )  # fmt: skip


def step_of_refusal(decision: Decision) -> tuple[Step, ...]:
    """What lifts a refusal that came before any policy; empty for another."""
    first = next((each for each in decision.reasons if each.id.startswith("remit:")), None)
    if first is None or (what := first.id.removeprefix("remit:")) not in _REFUSALS:
        return ()
    how, command = _REFUSALS[what]
    needed = "; ".join(decision.needed) or "otherwise"
    return (Step(fact=what, was=first.text, needs=needed, how=how, command=_filled(command, decision)),)


def _of_change(change: Change, decision: Decision, sight: Sight) -> Step:
    if change.path == ("context", "exceptions") and change.kind == "holds":
        how, command = _EXCEPTION
        command = _filled(command, decision, rule=str(change.value))
    elif change.path[:2] == ("context", "claimed"):
        how, command = f"say `{change.path[-1]}` in the request; it counts as claimed, never as proven", ""
    else:
        how, command = _HOW.get(change.path, (_fallback(change.path), ""))
        command = _filled(command, decision)
    return Step(fact=dotted(change.path), was=_was(change, sight), needs=needs_text(change), how=how, command=command)


def _was(change: Change, sight: Sight) -> str:
    if len(change.path) == 1:
        return "not a member" if change.kind == "in" else "a member"
    return shown(sight.at(change.path))


def needs_text(change: Change) -> str:
    """What a fact must be, in words."""
    if change.kind in ("present", "absent"):
        return change.kind
    if change.path[-1] in ("grant", "grant_digest", "task_digest") and change.kind == "is" and change.value == "":
        return "present"
    value = shown(change.value)
    if isinstance(change.value, str) and change.value.startswith(OTHER):
        return f'{OTHER}"{change.value.removeprefix(OTHER)}"'
    return value if change.kind == "is" else f"{change.kind} {value}"


def _fallback(path: Path) -> str:
    if path[0] == "context":
        return "let the enforcement point prove it"
    return f"change what the registry knows of the {path[0]}"


def _filled(command: str, decision: Decision, **more: str) -> str:
    """The command with the names of the decision in it, quoted for a shell."""
    facts: Mapping[str, Any] = decision.facts
    context = facts.get("context", {})
    resource = facts.get("resource", {}).get("id") or f"{decision.request.resource.type}/{decision.request.resource.id}"
    names = {
        "identity": facts.get("principal", {}).get("id") or decision.request.subject.id,
        "action": decision.request.action,
        "resource": resource,
        "task": str(context.get("task") or "TASK"),
        "need": f"SYSTEM://{decision.request.resource.id.removeprefix('target/')}?role={context.get('role') or 'ROLE'}",
        **more,
    }
    for name, value in names.items():
        command = command.replace("{" + name + "}", value if value.startswith("SYSTEM://") else shlex.quote(value))
    return command
