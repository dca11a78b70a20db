"""The contest of `bench.decisions` for Rego engines in process: the same rules as data, which is their fastest form.

Where `bench.peers` installs them. Each is compiled or loaded once; what is measured is one question.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from bench import peers
from bench.decisions import Asking, identities, resources

MODULE = """package bench
import rego.v1
default allow := false
allow if {
    not forbidden
    some group in data.identities[input.subject].groups
    data.permits[group][input.action][input.resource]
    input.context.attested
    data.identities[input.subject].tier >= 1
}
forbidden if not data.identities[input.subject].owner_active
forbidden if {
    data.resources[input.resource].sensitivity == "restricted"
    not input.context.attested
}
"""
_RULE = "data.bench.allow"


Ask = Callable[[Asking], Callable[[], bool]]
"""A question, ready to be asked again and again."""


def engine(name: str, policies: int) -> Ask:
    """`OPA` or `regorus` over this many rules. Raises `peers.NotThere`."""
    peers.engines()
    return _ENGINES[name](_world(policies))


def _world(policies: int) -> dict[str, Any]:
    known = {
        each.id: {"owner_active": each.owner_active, "tier": each.tier, "groups": list(each.names)}
        for each in identities()
    }
    reached = {each.name: {"sensitivity": each.sensitivity} for each in resources()}
    permits = {f"group-{n}": {"read": {f"database/{n}": True}} for n in range(policies - 2)}
    return {"identities": known, "resources": reached, "permits": permits}


def _input(asking: Asking) -> dict[str, Any]:
    return {
        "subject": identities()[asking.subject].id, "action": "read", "resource": resources()[asking.resource].name,
        "context": {"attested": asking.attested, "task": "nightly"},
    }  # fmt: skip


def _regorus(world: dict[str, Any]) -> Ask:
    """Compiled to its byte code; the input is JSON each time, as it is for everybody who asks over a wire."""
    regorus = _imported("regorus")
    program = regorus.Program.compile_from_modules(json.dumps(world), [("bench.rego", MODULE)], [_RULE])
    machine = regorus.Rvm()
    machine.load_program(program)
    machine.set_data_json(json.dumps(world))

    def ready(asking: Asking) -> Callable[[], bool]:
        text = json.dumps(_input(asking))

        def ask() -> bool:
            machine.set_input_json(text)
            return bool(machine.execute() == "true")

        return ask

    return ready


def _opa(world: dict[str, Any]) -> Ask:
    opa = _imported("opa_bindings").OpaEngine()
    opa.add_policy("bench.rego", MODULE)
    opa.add_data(world)
    rule = _RULE.removeprefix("data.")

    def ready(asking: Asking) -> Callable[[], bool]:
        question = _input(asking)
        return lambda: opa.eval_document(rule, question) is True

    return ready


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise peers.NotThere(f"`{module}` does not load here: {error}") from None


_ENGINES: Final[Mapping[str, Callable[[dict[str, Any]], Ask]]] = {"OPA": _opa, "regorus": _regorus}
