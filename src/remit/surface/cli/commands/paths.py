"""Commands on paths: which there are, what cuts them, and whether any escapes policy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import quote

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import ago, emit, plain, say, show_table

_PROOF = "/api/v1/path-proof"
Class: TypeAlias = Literal["public", "internal", "confidential", "restricted"]
ClassOption = Annotated[Class | None, Parameter(help="All resources of this sensitivity.")]
_SHOWN = 10


def paths(
    from_: Annotated[str, Parameter(help="Where the path begins: an identity, a credential's fingerprint.")] = "",
    to_: Annotated[str, Parameter(help="Where it ends: any node, or a resource's title.")] = "",
    /,
    *,
    to: Annotated[str, Parameter(help="Without a beginning: who reaches this.")] = "",
    resource_class: ClassOption = None,
    most: Annotated[int, Parameter(help="How many paths, or how many who reach it; at most 50.")] = 5,
    where: Listing | None = None,
) -> None:
    """Show paths from one thing to another, the shortest first and the most likely first; or who reaches a thing.

    Each step comes with its evidence, its conditions, and how to cut it.
    """
    where = where or Listing()
    end = to_ or to
    if not from_:
        found = where.admin.get("/api/v1/paths/into", to=end, **_class(resource_class), limit=max(most, 1))
        emit(found, where.format) if where.format != "table" else _print_into(found)
        return
    query = {"from": from_, "to": end, **_class(resource_class), "most": most}
    found = where.admin.get("/api/v1/paths", **query)
    if where.format != "table":
        emit(found, where.format)
    elif not found["shortest"]:
        say(plain(found["cut_short"] or "no path leads there"))
    else:
        _print_paths(found)
    if not found["shortest"] and not found["cut_short"]:
        raise SystemExit(1)


def _print_paths(found: dict[str, Any]) -> None:
    print("shortest first")
    for number, each in enumerate(found["shortest"], 1):
        _print_path(each, f"{number}.")
    if _keys(found["likely"]) != _keys(found["shortest"]):
        print("most likely first")
        for number, each in enumerate(found["likely"], 1):
            _print_path(each, f"{number}.")
    if found["cut_short"]:
        say(f"[yellow]{plain(found['cut_short'])}[/yellow]")


def _keys(several: Iterable[dict[str, Any]]) -> list[list[tuple[str, str, str]]]:
    return [[(one["source"], one["relation"], one["target"]) for one in each["edges"]] for each in several]


def _print_path(path: dict[str, Any], mark: str, told: set[tuple[str, str, str]] | None = None) -> None:
    """One path; what of a step was `told` already is not told again."""
    from remit.surface.cli.output import visible

    told = told if told is not None else set()

    word = "step" if path["steps"] == 1 else "steps"
    unsure = ", conditional" if path["conditional"] else ""
    print(
        visible(
            f"{mark} {path['steps']} {word}, likelihood {path['likelihood']:.2f}{unsure}: {path['nodes'][0]['title']}"
        )
    )
    for node, edge in zip(path["nodes"][1:], path["edges"], strict=True):
        actions = f" ({', '.join(edge['actions'][:6])})" if edge["actions"] else ""
        print(visible(f"     {edge['relation']} → {node['title']} [{node['kind']}]{actions}"))
        if (key := (edge["source"], edge["relation"], edge["target"])) in told:
            continue
        told.add(key)
        if edge["evidence"]:
            print(visible(f"         {edge['evidence']}"))
        for condition in edge["conditions"]:
            print(visible(f"         if: {condition}"))
        if edge["cut"]:
            print(visible(f"         cut: {edge['cut']}"))


def _print_into(found: dict[str, Any]) -> None:
    what = found["to"][0]["title"] if found["ends"] == 1 else f"{found['ends']} resources"
    say(
        plain(
            f"{found['identities']} identities reach {what}: {found['certain']} certainly, {found['conditional']} "
            f"under conditions; with places that nothing is known to lead to, {found['can_act']} ways in"
        )
    )
    rows = [
        {**each, "by": " → ".join(edge["relation"] for edge in each["path"]["edges"]),
         "sure": "conditional" if each["conditional"] else "certain"}
        for each in found["nearest"]
    ]  # fmt: skip
    columns = [("title", "who"), ("kind", "kind"), ("distance", "steps"), ("sure", "how sure"), ("by", "by"),
               ("name", "id")]  # fmt: skip
    show_table(rows, columns, empty="nobody reaches it")


def cut(
    from_: Annotated[str, Parameter(help="What shall reach the end no more.")] = "",
    to_: Annotated[str, Parameter(help="The end.")] = "",
    /,
    *,
    from_id: Annotated[str, Parameter(name="--from", help="The same as the first argument.")] = "",
    to: Annotated[str, Parameter(help="The end; without a beginning everybody who can act is cut off.")] = "",
    resource_class: Annotated[
        Class | None, Parameter(name=["--resource-class", "--class"], help="All resources of this sensitivity.")
    ] = None,
    where: Listing | None = None,
) -> None:
    """Show the cheapest set of changes after which one thing reaches another no more, and what else it breaks.

    Nothing is changed. Exits 1 where no cut is possible.
    """
    where = where or Listing()
    start, end = from_ or from_id, to_ or to
    query = {"to": end, **_class(resource_class), **({"from": start} if start else {})}
    found = where.admin.get("/api/v1/paths/cut", **query)
    if where.format != "table":
        emit(found, where.format)
    else:
        _print_cut(found)
    if not found["possible"]:
        raise SystemExit(1)


def _print_cut(found: dict[str, Any]) -> None:
    if not found["possible"]:
        say(f"[red]no cut is possible[/red]: {plain(found['note'])}")
        if found["across"]:
            _print_path(found["across"], "·")
        return
    if not found["edges"]:
        say(plain(found["note"] or "nothing leads across"))
        return
    rows = [{**each, "how": each["cut"] or each["why"]} for each in found["edges"]]
    columns = [("cost", "cost"), ("source_title", "from"), ("relation", "by"), ("target_title", "to"), ("how", "cut")]
    show_table(rows, columns)
    say(plain(f"total cost {found['cost']}" + (f"; {found['note']}" if found["note"] else "")))
    if not found["stated"]:
        say("[yellow]of some edges no source says how they are removed[/yellow]")
    for each in found["breaks"]:
        last = f", last {ago(each['last'])} by {', '.join(each['consumers'][:3])}" if each["last"] else ""
        say(plain(f"breaks: {each['title']} ({each['use']}{last}; {each['others']} come to it)"))
    if found["unmeasured"]:
        say(plain(found["unmeasured"]))


def prove(
    *,
    resource_class: ClassOption = None,
    resource: Annotated[str, Parameter(help="One resource, by its name or title.")] = "",
    certificate: Annotated[Path | None, Parameter(help="Where no path is open: write a certificate here.")] = None,
    where: Listing | None = None,
) -> None:
    """Show every path to a resource or class that no decision and no exception stands in. Exits 1 where one is open.

    With `--certificate FILE` a signed certificate goes into the ledger and into the file.
    """
    where = where or Listing()
    if certificate is not None:
        body = {"resource": resource, "resource_class": resource_class or ""}
        found = where.admin.post(_PROOF, body)
    else:
        found = where.admin.get(_PROOF, resource=resource, **_class(resource_class))
    if where.format != "table":
        emit({name: said for name, said in found.items() if name != "file"}, where.format)
    else:
        _print_report(found)
    if not found["closed"]:
        raise SystemExit(1)
    if certificate is not None:
        certificate.write_text(found["file"], encoding="utf-8")
        say(f"wrote {plain(certificate)}: check it with `remit prove verify {plain(certificate)}`")


def _print_report(found: dict[str, Any]) -> None:
    rows = [
        {**each, "what": each["titles"][0] + (f" and {each['number'] - 1} more" if each["number"] > 1 else "")}
        for each in found["verdicts"]
    ]
    columns = [("what", "resource"), ("status", "status"), ("open", "open"), ("conditional", "conditional"),
               ("excepted", "excepted"), ("decided", "decided")]  # fmt: skip
    show_table(rows, columns, empty="nothing is in scope")
    told: set[tuple[str, str, str]] = set()
    for each in found["verdicts"]:
        _print_verdict(each, told)
    for each in found["bypasses"]:
        say(f"[red]bypass[/red] {plain(each['name'])}: {plain(each['why'])}")
    for text in found["refused"]:
        say(f"[yellow]does not count[/yellow] {plain(text)}")
    for text in found["blind"]:
        say(plain(f"not proved: {text}"))
    policy = found["policy"]
    for text in policy["proved"]:
        say(plain(f"proved of {policy['version']} by {policy['solver']}: {text}"))
    counts = ", ".join(f"{number} {status}" for status, number in found["counts"].items() if number)
    say(plain(f"{found['scope']}: {counts or 'nothing'}"))
    for text in found["obstacles"]:
        say(f"[red]no certificate:[/red] {plain(text)}")
    if found["closed"]:
        say("[bold green]no path escapes policy[/bold green]")


def _print_verdict(one: dict[str, Any], told: set[tuple[str, str, str]]) -> None:
    for text in one["unmeasured"]:
        say(f"[yellow]unmeasured[/yellow] {plain(one['titles'][0])}: {plain(text)}")
    several = one["open"] + one["conditional"] > 1
    for opening in one["openings"][:_SHOWN]:
        _print_path(opening["path"], "open", told)
        _print_ways(opening["close"][:1] if several else opening["close"][:2], "         close")
    more = one["open"] + one["conditional"] - len(one["openings"][:_SHOWN])
    if more > 0:
        print(f"and {more} more")
    if several:
        _print_ways(one["close"][:1], f"close all that is open to {one['titles'][0]}")


def _print_ways(ways: list[dict[str, Any]], mark: str) -> None:
    from remit.surface.cli.output import visible

    for way in ways:
        cost = f" (cost {way['cost']})" if way["cost"] is not None else ""
        rest = f" ({way['note']})" if "prove again" in way["note"] else ""
        print(visible(f"{mark} by {way['how']}{cost}: {'; '.join(way['commands'][:5])}{rest}"))


def verify(
    file: Path,
    /,
    *,
    key: Annotated[Path | None, Parameter(help="The ledger's public key; default DIR/ledger/key.pub.")] = None,
    scope: Annotated[
        str, Parameter(help="What it must speak of: `class:restricted`, or `resource:` and a name. Any other fails.")
    ] = "",
    where: Listing | None = None,
) -> None:
    """Check a certificate without a server: its signature, that the ledger holds it, and what it speaks of."""
    from remit.governance.pathproof.certificate import verify_file
    from remit.ledger.note import parse_verifier_key

    where = where or Listing()
    place = key or where.data / "ledger" / "key.pub"
    try:
        vkey = parse_verifier_key(place.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected("ledger.key.unreadable", f"the key `{place}` cannot be read: {error}") from None
    found = verify_file(file.read_bytes(), vkey, now=datetime.now(UTC), scope=scope)
    if where.format != "table":
        emit({"verified": True, "over": found.over, "digest": found.digest, "leaf": found.leaf, "log": found.log,
              "certificate": dict(found.certificate)}, where.format)  # fmt: skip
    else:
        said = found.certificate
        say(f"[bold green]verified[/bold green] leaf {found.leaf} of {plain(found.log)}, {plain(found.digest[:23])}…")
        say(plain(f"{said['scope']} at {said['time']}, until {said['expires']}; policy {said['policy']['version']}"))
        for text in said["blind"]:
            say(plain(f"not proved: {text}"))
        if key is None:
            say("[yellow]note[/yellow] the key came from the ledger's own folder: keep a copy elsewhere")
    if found.over:
        say("[yellow]its time is over[/yellow]: prove again")
        raise SystemExit(1)


def ls(*, where: Listing | None = None) -> None:
    """List certificates: since when each holds, or what broke it."""
    where = where or Listing()
    found = where.admin.get(f"{_PROOF}/certificates")
    if where.format != "table":
        emit(found, where.format)
        return
    rows = [{**each, "stands": "holds" if each["holds"] else "; ".join(each["broken_by"])} for each in found]
    columns = [("scope", "scope"), ("time", "since"), ("expires", "until"), ("stands", "stands"), ("leaf", "leaf")]
    show_table(rows, columns, empty="no certificate: `remit prove --resource-class restricted --certificate FILE`")


def bind(
    enforcer: str,
    /,
    *,
    identity: Annotated[list[str], Parameter(help="The enforcement point's own identity there.", negative=())],
    resource: Annotated[list[str], Parameter(help="A resource, or a prefix of names ending in `*`.", negative=())],
    reason: str,
    where: Listing | None = None,
) -> None:
    """Say which identities are an enforcement point's own on a resource. Signed by you.

    E.g. `remit prove bind payments-gateway --identity gateway_rw --resource 'urn:remit:postgres:…:table:pay.cards'
    --reason 'the gateway asks for each call'`. It closes nothing that stands beside the point.
    """
    where = where or Listing()
    body = {"enforcer": enforcer, "identities": identity, "resources": resource, "reason": reason}
    found = where.admin.post(f"{_PROOF}/bindings", body, signed=True)
    emit(found, where.format) if where.format != "table" else say(plain(f"bound {found['id']}"))


def bindings(*, where: Listing | None = None) -> None:
    """List bindings of enforcement points."""
    where = where or Listing()
    found = where.admin.get(f"{_PROOF}/bindings")
    if where.format != "table":
        emit(found, where.format)
        return
    rows = [{**each, "who": ", ".join(each["identities"]), "what": ", ".join(each["resources"])} for each in found]
    columns = [("id", "binding"), ("enforcer", "point"), ("who", "identities"), ("what", "resources"),
               ("counts", "counts"), ("created_by", "by")]  # fmt: skip
    show_table(rows, columns, empty="no bindings")


def unbind(binding: str, /, *, where: Where | None = None) -> None:
    """Forget a binding, at once."""
    found = (where or Where()).admin.delete(f"{_PROOF}/bindings/{quote(binding, safe='')}")
    say(plain(f"forgot {found['id']}"))


def _class(given: str | None) -> dict[str, str]:
    return {"class": given} if given else {}
