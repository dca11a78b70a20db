"""The judge of worlds in the form of Cedar's corpus: cedarpy's answer to each request, and where ours is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cedarpy
from cedar_corpus import World

from remit.access.policy.cedar import Cedar
from remit.access.policy.cedar_reference import is_valid
from remit.access.policy.source import read_templates
from remit.kernel.errors import Rejected


class Cedars:
    """What cedarpy makes of a world. `ValueError` where it cannot read it."""

    def __init__(self, world: World) -> None:
        read = cedarpy.Schema.from_json_str if world.schema.startswith("{") else cedarpy.Schema.from_str
        self.schema = read(world.schema)
        self.policies = cedarpy.PolicySet.from_str(world.policies)
        self.entities = cedarpy.Entities.from_json_str(json.dumps(world.entities), self.schema)

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer as the corpus writes it, or None where the request does not fit the schema."""
        asked = {part: request[part] for part in ("principal", "action", "resource", "context")}
        found = cedarpy.is_authorized(asked, self.policies, self.entities, schema=self.schema)
        if found.decision is cedarpy.Decision.NoDecision:
            return None
        return {
            "decision": "allow" if found.allowed else "deny",
            "reason": sorted(found.diagnostics.reasons),
            "errors": sorted(text.split("`", 2)[1] for text in found.diagnostics.errors),
        }


def answered(world: World) -> list[dict[str, Any]]:
    """The requests that Cedar decides, each with its answer."""
    cedars = Cedars(world)
    found = ((request, cedars.answer(request)) for request in world.requests)
    return [{**request, **answer} for request, answer in found if answer is not None]


def differences(world: World, requests: list[dict[str, Any]]) -> list[str]:
    """Where our engine answers these requests otherwise, or needs cedarpy for more than single policies."""
    found = []
    try:
        engine = Cedar(world.policies, world.entities, world.schema)
    except Rejected as refused:
        return [f"refused: {refused}"]
    if engine.uncovered:
        found.append(f"not covered: {engine.uncovered}")
    for request in requests:
        parts = (request[part] for part in ("principal", "action", "resource", "context"))
        try:
            answer = engine.authorize(*parts)
        except Rejected as refused:
            found.append(f"refused: {refused}")
            continue
        ours = ("allow" if answer.allowed else "deny", sorted(answer.reasons), sorted(answer.errors))
        theirs = (request["decision"], request["reason"], request["errors"])
        if ours != theirs:
            found.append(f"{request['principal']}, {request['action']}: {ours}, Cedar {theirs}; {answer.messages}")
    return found


def read_alike(text: str) -> bool:
    """Whether our reading of a text, policy by policy, is cedarpy's reading of the whole."""
    try:
        whole = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError:
        whole = None
    try:
        policies, templates = read_templates(text, positional=True)
    except Rejected:
        return whole is None
    ours = {
        "staticPolicies": {one.id: one.est for one in policies},
        "templates": {one.id: one.est for one in templates},
    }
    return whole is not None and all(whole[part] == ours[part] for part in ours)


def write(world: World, requests: list[dict[str, Any]], folder: Path, name: str) -> None:
    """The world as files of the corpus."""
    schema = f"{name}.cedarschema" + (".json" if world.schema.startswith("{") else "")
    for file, text in (
        (f"{name}.cedar", world.policies),
        (f"{name}.entities.json", json.dumps(world.entities)),
        (schema, world.schema),
    ):
        (folder / file).write_bytes(text.encode())
    test = {
        "schema": f"{folder.name}/{schema}",
        "policies": f"{folder.name}/{name}.cedar",
        "shouldValidate": bool(world.schema) and is_valid(world.policies, world.schema),
        "entities": f"{folder.name}/{name}.entities.json",
        "requests": requests,
    }
    (folder / f"{name}.json").write_text(json.dumps(test))
