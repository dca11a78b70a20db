"""Commands of right-sizing: granted against used, the proposal, its replay, and its way into force."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.convert import write_files
from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table, visible

_PATH = "/api/v1/rightsizing"


def rightsize(
    identity: str = "",
    /,
    *,
    window: Annotated[int, Parameter(help="Look at so many last days alone (0: at all that is known).")] = 0,
    replay: Annotated[
        bool, Parameter(help="Replay every observed call; the proof goes into the ledger.", negative=())
    ] = False,
    source: Annotated[Path | None, Parameter(name="--from", help="A file that says what is granted.")] = None,
    data_events: Annotated[bool, Parameter(help="The trail tells of data events too.", negative=())] = False,
    out: Annotated[Path | None, Parameter(help="Write the proposal into this folder.")] = None,
    limit: Annotated[int, Parameter(help="Without an identity: at most so many candidates.")] = 20,
    where: Listing | None = None,
) -> None:
    """Say what an identity may do and never does, and propose the least that serves, as a difference.

    Without an identity it lists where most blast radius goes for the least risk. With `--replay` the exit code is 1
    where a call that was observed would be refused, or where that is not proven.
    """
    where = where or Listing()
    if not identity:
        _top(where, limit)
        return
    file = str(source.absolute()) if source else ""
    if replay:
        body = {"identity": identity, "window": window, "source": file, "data_events": data_events}
        found = where.admin.post(f"{_PATH}/replay", body)
    else:
        asked = {"window": window, "source": file, "data_events": "1" if data_events else ""}
        found = where.admin.get(f"{_PATH}/of/{quote(identity, safe='')}", **{k: v for k, v in asked.items() if v})
    if out is not None and found["changes"]:
        write_files(out, _files(found))
    if where.format != "table":
        emit(found, where.format)
    else:
        _show(found, whole=not replay)
        if out is not None and found["changes"]:
            say(plain(f"written: {out}"))
    if replay and not found["replay"]["proven"]:
        raise SystemExit(1)


def _top(where: Listing, limit: int) -> None:
    found = where.admin.get(_PATH, limit=limit)
    if where.format != "table":
        emit(found, where.format)
        return
    rows = [
        {
            **each,
            "ratio": f"{each['ratio']:.1%}",
            "radius": _radius(each),
            "proven": "yes" if each["replay"]["proven"] else "no",
        }
        for each in found["candidates"]
    ]
    columns = [("title", "identity"), ("system", "system"), ("ratio", "unused"), ("radius", "radius"),
               ("confidence", "confidence"), ("proven", "proven"), ("why", "why"), ("identity", "id")]  # fmt: skip
    show_table(rows, columns, empty="no log was read that tells what was done: `remit discover use LOG --set kind=…`")
    for text in found["not_looked_at"]:
        say(plain(f"not looked at: {text}"))


def _radius(each: dict[str, Any]) -> str:
    if each["radius_now"] is None:
        return "unmeasured"
    after = each["radius_after"]["score"] if each["radius_after"] else "?"
    return f"{each['radius_now']['score']} → {after}"


def _show(found: dict[str, Any], *, whole: bool) -> None:
    say(plain(f"{found['title']} ({found['language']}, from {found['source']})"))
    say(plain(f"granted {found['granted']}, used {found['used']}: {found['ratio']:.1%} of what it may do is unused"))
    say(plain(f"confidence: {found['confidence']} ({found['why']})"))
    say(plain(f"radius {_radius(found)}"))
    if whole:
        for text in found["texts"]:
            sys.stdout.write("".join(f"{visible(line)}\n" for line in text["diff"].splitlines()))
        for command in found["commands"]:
            sys.stdout.write(f"{visible(command)}\n")
    for note in found["notes"]:
        say(plain(f"note: {note}"))
    if not found["changes"]:
        say("nothing to take away")
    say(plain(f"replay: {found['replay']['said']}"))
    for each in found["replay"]["refused"]:
        say(plain(f"  would be refused: {each['action']} on {each['resource'] or '?'}, {each['count']} times"))
    if found.get("shadow"):
        say(plain(f"shadow: {found['shadow']['said']}"))
    for each in found.get("stages", [])[:1]:
        say(
            plain(f"stage: {each['phase']} since {each['moved']}" + (f", until {each['ends']}" if each["ends"] else ""))
        )
        if each["trouble"]:
            say(plain(f"  {each['trouble']}"))


def _share(made: dict[str, Any]) -> str:
    return f", for {made['share']} % of its consumers" if made["ends"] and made["share"] < 100 else ""


def _files(found: dict[str, Any]) -> dict[str, str]:
    files = {"apply.sh" if found["language"] != "postgres" else "apply.sql": _lines(found, "commands")}
    files["back.sh" if found["language"] != "postgres" else "back.sql"] = _lines(found, "inverse")
    for text in found["texts"]:
        local = text["name"].replace("/", "-")
        files[local] = text["after"]
        files[f"{local}.diff"] = text["diff"]
    if found["language"] == "aws":
        files["remit-right-sized.json"] = found["texts"][0]["after"]
    if found["language"] == "kubernetes":
        files["right-sized.yaml"] = found["texts"][0]["after"]
    return files


def _lines(found: dict[str, Any], key: str) -> str:
    end = ";\n" if found["language"] == "postgres" else "\n"
    return "".join(f"{command}{end}" for command in found[key])


def stage(
    identity: str,
    stage: Literal["shadow", "canary", "enforce", "back"],
    /,
    *,
    minutes: Annotated[int, Parameter(help="How long a canary is in force, at most a week.")] = 15,
    share: Annotated[
        int, Parameter(help="For so many per cent of the consumers, where Remit itself decides (10 without it).")
    ] = 0,
    source: Annotated[Path | None, Parameter(name="--from", help="A file that says what is granted.")] = None,
    data_events: Annotated[bool, Parameter(help="The trail tells of data events too.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Bring a proposal on its way: shadow (count), canary (for minutes), enforce, back. You sign.

    What is refused while it is in force takes it back by itself. Who proposed does not enforce alone.
    """
    where = where or Listing()
    body = {
        "identity": identity, "stage": stage, "minutes": minutes, "share": share,
        "source": str(source.absolute()) if source else "",
        "data_events": data_events,
    }  # fmt: skip
    made = where.admin.post(f"{_PATH}/stages", body, signed=True)
    if where.format != "table":
        emit(made, where.format)
        return
    say(plain(f"{made['id']}: {made['phase']}" + (f", until {made['ends']}" if made["ends"] else "") + _share(made)))
    say(plain(f"proposal {made['digest']}; {made['replay']['said']}"))
    if made["trouble"]:
        say(plain(made["trouble"]))
