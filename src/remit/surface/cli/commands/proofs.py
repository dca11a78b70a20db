"""Commands that prove, analyse and compare policies: offline, with a solver."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected, Unavailable
from remit.surface.cli.commands.policy_files import PolicyFiles, files_in_question, named_files, read_text
from remit.surface.cli.options import Listing
from remit.surface.cli.output import console, emit, plain, say

if TYPE_CHECKING:
    from remit.access.policy.diff import Comparison
    from remit.access.policy.invariants import Invariant
    from remit.access.policy.prove import Proof, Witness

_SECONDS = Parameter(help="How long the solver may think about one question.")
_STYLES = {"proved": "bold green", "hole": "bold red", "undecided": "bold yellow"}
_SEVERITIES = {"high": "bold red", "medium": "yellow", "low": "cyan", "info": "dim"}


def prove(
    *what: str,
    invariant: Annotated[Path | None, Parameter(help="A file of invariants, in words or in Cedar.")] = None,
    seconds: Annotated[float, _SECONDS] = 30.0,
    where: Listing | None = None,
) -> None:
    """Prove that whatever policies allow has what an invariant requires, or show a request that has not.

    `remit policy prove [PATH] 'restricted requires attested, owned, granted'`. PATH is a file, a folder, `starter`,
    `active` or a version; without it, the policies in force, else the starter library. Without an invariant, those of
    the library and of PATH. Exits 1 unless everything is proved.
    """
    where = where or Listing()
    from remit.access.policy.invariants import is_sentence
    from remit.access.policy.prove import assumptions, prove

    words = [each for each in what if is_sentence(each)]
    paths = [each for each in what if each not in words]
    if len(paths) > 1:
        raise Rejected("access.policy.invariant", f"`{paths[1][:80]}` is neither an invariant nor the only path")
    if paths and " " in paths[0] and not Path(paths[0]).exists():
        raise Rejected(
            "access.policy.invariant",
            f"`{paths[0][:80]}` is neither a file nor an invariant, which says what it requires",
            next_step="for example `remit policy prove 'restricted requires owned'`; docs/policies.md lists the words",
        )
    files = files_in_question(paths[0] if paths else "", where)
    invariants = _invariants(words, invariant, files)
    rests_on = assumptions()
    proofs = prove(files.text, invariants, seconds=seconds)
    if where.format != "table":
        emit(_certificate(files, proofs, rests_on), where.format)
    else:
        _show_proofs(files, proofs, rests_on)
    if any(each.outcome != "proved" for each in proofs):
        sys.exit(1)


def _invariants(words: Sequence[str], file: Path | None, files: PolicyFiles) -> list[Invariant]:
    from remit.access.policy.invariants import read_invariant, read_invariants
    from remit.access.policy.starter import starter_invariants

    if words or file is not None:
        read = [read_invariant(each) for each in words]
        return [*read, *(read_invariants(read_text(file)) if file is not None else ())]
    own = read_invariants(files.invariants)
    stated = {each.id for each in own}
    return [*own, *(each for each in read_invariants(starter_invariants()) if each.id not in stated)]


def _certificate(files: PolicyFiles, proofs: Sequence[Proof], rests_on: Mapping[str, str]) -> dict[str, Any]:
    """What was proved of which text, when, by what, and what that rests on."""
    return {
        "policies": files.name,
        "digest": proofs[0].digest if proofs else "",
        "count": proofs[0].policies if proofs else 0,
        "solver": proofs[0].solver if proofs else "",
        "time": rfc3339(datetime.now(UTC)),
        "assumptions": dict(rests_on),
        "proofs": msgspec.to_builtins(proofs),
    }


def _show_proofs(files: PolicyFiles, proofs: Sequence[Proof], rests_on: Mapping[str, str]) -> None:
    out = console()
    for proof in proofs:
        named = "" if proof.invariant == proof.text[:120] else f"[bold]{plain(proof.invariant)}[/bold]  "
        word = f"[{_STYLES[proof.outcome]}]{proof.outcome:<9}[/{_STYLES[proof.outcome]}]"
        out.print(f"{word} {named}{plain(proof.text)}  [dim]{proof.seconds:g} s[/dim]", soft_wrap=True)
        if proof.vacuous:
            out.print("          [dim]nothing of that kind is ever allowed[/dim]")
        if proof.witness is not None:
            _show_witness(proof.witness)
        for reason in proof.why:
            out.print(f"          {plain(reason)}")
    if proofs:
        first = proofs[0]
        say(
            f"[dim]{plain(files.name)}: {first.policies} policies ({first.digest[:19]}…), {first.solver}; "
            f"assuming {', '.join(rests_on)} (docs/policies.md)[/dim]"
        )


def _show_witness(witness: Witness, allowed: str = "allowed by") -> None:
    """A request, the facts under which the engine answers it so, and what it lacks."""
    out = console()
    out.print(f"          request   {plain(json.dumps(witness.request))}", soft_wrap=True)
    for name, facts in _told(witness.facts).items():
        out.print(f"          {name:<9} {plain(facts)}", soft_wrap=True)
    out.print(f"          [bold]{allowed}[/bold] {plain(', '.join(witness.by))}")
    if witness.lacks:
        out.print(f"          [bold red]lacks[/bold red] {plain(', '.join(witness.lacks))}")


def _told(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts in one line each; what is empty says nothing."""
    told: dict[str, str] = {}
    for name, value in facts.items():
        shown = {**value.get("attributes", {}), **{key: value[key] for key in ("in", "labels") if key in value}} if (
            isinstance(value, Mapping) and "attributes" in value
        ) else value  # fmt: skip
        kept = {key: one for key, one in shown.items() if one not in ({}, [])} if isinstance(shown, Mapping) else shown
        told[name] = kept if isinstance(kept, str) else json.dumps(kept, ensure_ascii=False)
    return told


def analyse(
    path: str = "",
    /,
    *,
    limit: Annotated[int, Parameter(help="Look for use in this many of the last decisions.")] = 1000,
    seconds: Annotated[float, _SECONDS] = 30.0,
    where: Listing | None = None,
) -> None:
    """Find policies that are shadowed, contradictory, over-broad, in error, or of no use, each with its evidence.

    PATH as for `prove`. Exits 1 when something of severity medium or high is found.
    """
    where = where or Listing()
    from remit.access.policy.analyse import analyse

    files = files_in_question(path, where)
    decisions, used = _usage(where, limit)
    found = analyse(files.text, used=used, decisions=decisions, seconds=seconds)
    if where.format != "table":
        emit({"policies": files.name, **msgspec.to_builtins(found)}, where.format)
    else:
        out = console()
        for each in found.findings:
            style = _SEVERITIES[each.severity]
            out.print(
                f"[{style}]{each.severity:<6}[/{style}] {each.rule}  [bold]{plain(each.policy)}[/bold] "
                f"(line {each.line}): {plain(each.text)}",
                soft_wrap=True,
            )
            if each.witness is not None:
                _show_witness(each.witness, "allowed by" if each.witness.allowed else "denied by")
        for gap in found.unmeasured:
            say(f"[dim]not measured: {plain(gap)}[/dim]")
        told = f"{len(found.findings)} findings in {found.policies} policies, {found.solver}"
        say(f"[dim]{plain(files.name)}: {told}[/dim]")
    if any(each.severity in ("high", "medium") for each in found.findings):
        sys.exit(1)


def _usage(where: Listing, limit: int) -> tuple[int, dict[str, int] | None]:
    """Decisions asked, and how many each policy determined; None where no control plane answers."""
    try:
        usage = where.admin.get("/api/v1/policies/usage", limit=limit)
    except Unavailable:
        return 0, None
    return usage["decisions"], usage["used"]


def diff(
    before: str,
    after: str,
    /,
    *,
    seconds: Annotated[float, _SECONDS] = 30.0,
    where: Listing | None = None,
) -> None:
    """Compare two policy sets: their texts, and what they allow. Exits 1 unless they are equivalent.

    Each is a file, a folder, `starter`, `active`, or a version. What they allow is compared by proof: they are
    equivalent, or here is a request that one of them allows and the other does not.
    """
    where = where or Listing()
    from remit.access.policy.diff import compare

    found = compare(named_files(before, where).text, named_files(after, where).text, seconds=seconds)
    if where.format != "table":
        emit(found, where.format)
    else:
        _show_comparison(found)
    if found.semantic != "equivalent":
        sys.exit(1)


def _show_comparison(found: Comparison) -> None:
    out = console()
    for change in found.texts:
        out.print(f"[bold]{change.change}[/bold] {plain(change.policy)}")
        for line in change.lines[2:]:
            colour = {"+": "green", "-": "red"}.get(line[:1])
            text = plain(line)
            out.print(f"  [{colour}]{text}[/{colour}]" if colour else f"  {text}", soft_wrap=True)
    out.print(f"[bold]{found.semantic}[/bold]" + ("" if found.texts else ": the texts are the same"))
    for witness, said in (
        (found.gained, "only the second permits"),
        (found.lost, "only the first permits"),
        (found.obliged, "both permit, with other obligations"),
    ):
        if witness is not None:
            out.print(f"  {said}:")
            _show_witness(witness)
    for reason in found.why:
        out.print(f"  {plain(reason)}")
