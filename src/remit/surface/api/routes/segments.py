"""Network segments: which rules would hold around a target, which do, and what was seen when they were tried."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.access.segments import Applied, Form, Place, Probe, parse_place
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.wiring.segments import Planned

_TAG = "access"
_ONE = "/api/v1/targets/{target}/segment"


class NewPlace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a task comes from, or a target is: networks, or pods by namespace and labels."""

    subject: str
    addresses: list[str] = []
    namespace: str = ""
    labels: dict[str, str] = {}


class ApplySegment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules shall hold; `follow`: only what grants in force allow, for as long as they do."""

    form: str = "nftables"
    follow: bool = False
    file: str = ""
    dry_run: bool = False


class OfForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of one form."""

    form: str = "nftables"


async def plan(call: Call) -> Any:
    form = _form(call.query.get("form", "") or Form.NFTABLES.value)
    return _planned(await call.control.segments.plan(call.path["target"], form, running=call.flag("running")))


async def apply(call: Call) -> Any:
    body: ApplySegment = call.body
    form, target = _form(body.form), call.path["target"]
    if body.dry_run:
        return _planned(await call.control.segments.plan(target, form, running=body.follow))
    by = call.require_person("applying network rules")
    if len(body.file) > 1000 or not body.file.isprintable():
        raise Rejected("access.segment.file", "the path of the file is too long or not printable")
    applied, probed = await call.control.segments.apply(
        target, form, follow=body.follow, file=body.file, actor=f"person:{by.name}", approval=by.evidence()
    )
    return {**_applied(applied), "probe": _probed(probed)}


async def probe(call: Call) -> Any:
    body: OfForm = call.body
    done = await call.control.segments.probe(call.path["target"], _form(body.form), actor=call.caller.actor)
    return _probed(done)


async def remove(call: Call) -> Any:
    body: OfForm = call.body
    by = call.require_person("removing network rules")
    await call.control.segments.remove(call.path["target"], _form(body.form), actor=f"person:{by.name}")
    return {"removed": call.path["target"], "form": body.form}


async def list_segments(call: Call) -> Any:
    applied, probes = await call.control.segments.state()
    seen = {(one.target, one.form): _probed(one) for one in probes}
    rows = [{**_applied(one), "probe": seen.pop((one.target, one.form), None)} for one in applied]
    # What others applied can be probed all the same.
    return rows + [{"target": target, "form": form.value, "probe": each} for (target, form), each in seen.items()]


async def put_place(call: Call) -> Any:
    body: NewPlace = call.body
    by = call.require_person("registering a place")
    place = parse_place(
        body.subject, addresses=body.addresses, namespace=body.namespace, labels=body.labels, actor=f"person:{by.name}"
    )
    return _place(await call.control.segments.place(place, approval=by.evidence()))


async def list_places(call: Call) -> Any:
    return [_place(one) for one in await call.control.segments.places()]


async def remove_place(call: Call) -> Any:
    by = call.require_person("removing a place")
    await call.control.segments.displace(call.path["subject"], actor=f"person:{by.name}")
    return {"removed": call.path["subject"]}


def _form(text: str) -> Form:
    try:
        return Form(text)
    except ValueError:
        known = ", ".join(form.value for form in Form)
        raise Rejected(
            "access.segment.form", f"`{text[:40]}` is no form of rules", next_step=f"one of {known}"
        ) from None


def _planned(planned: Planned) -> dict[str, Any]:
    segment = planned.segment
    return {
        "target": segment.target,
        "form": planned.form.value,
        "text": planned.text,
        "openings": msgspec.to_builtins(segment.openings),
        "left_out": msgspec.to_builtins(segment.left_out),
    }


def _applied(applied: Applied) -> dict[str, Any]:
    return {key: value for key, value in applied.as_json().items() if key not in ("before", "listing")}


def _probed(probe: Probe) -> dict[str, Any]:
    return {**probe.as_json(), "verdict": probe.verdict.value}


def _place(place: Place) -> dict[str, Any]:
    return dict(place.content())


ROUTES = [
    Route(method="GET", path="/api/v1/segments", summary="Network rules that hold, and their newest probes",
          handler=list_segments, tag=_TAG),
    Route(method="GET", path=_ONE, summary="What network rules around a target would be", handler=plan, tag=_TAG,
          query={"form": "`nftables`, `kubernetes` or `pg_hba`", "running": "only what grants in force allow"}),
    Route(method="POST", path=f"{_ONE}/apply", summary="Let network rules hold, try them, put back what fails",
          handler=apply, body=ApplySegment, tag=_TAG),
    Route(method="POST", path=f"{_ONE}/probe", summary="Try what should work and what should not", handler=probe,
          body=OfForm, tag=_TAG),
    Route(method="POST", path=f"{_ONE}/remove", summary="Take network rules away", handler=remove, body=OfForm,
          tag=_TAG),
    Route(method="GET", path="/api/v1/segment-places", summary="Registered places", handler=list_places, tag=_TAG),
    Route(method="POST", path="/api/v1/segment-places", summary="Register where a task comes from, or a target is",
          handler=put_place, body=NewPlace, tag=_TAG),
    Route(method="DELETE", path="/api/v1/segment-places/{subject}", summary="Forget a place", handler=remove_place,
          tag=_TAG),
]  # fmt: skip
