"""State, plan and configuration as the same items: a resource instance, an output, a provider or a backend.

Spec: Terraform, "State: JSON format" (versions 3 and 4), "JSON Output Format" (plans and `show`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from remit.inventory.connectors.files.formats import Malformed

MAX_DEPTH = 60
MAX_MODULES = 5_000
MAX_NODES = 20_000
"""Of one item."""
Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something declared or kept. `kind`: `resource`, `data`, `output`, `variable`, `provider`, `backend`, `module`."""

    kind: str
    type: str
    address: str
    values: Values = field(repr=False)
    sensitive: frozenset[str] = frozenset()
    """Top-level attributes that Terraform itself calls sensitive."""
    line: int | None = None
    file: str = ""

    def text(self, *keys: str) -> str:
        """The first of these attributes that is a text with something in it."""
        found = (self.values.get(key) for key in keys)
        return next((value for value in found if isinstance(value, str) and value), "")

    def block(self, key: str) -> Values:
        """A nested block: the first one of a list of them."""
        value = self.values.get(key)
        if isinstance(value, list):
            value = value[0] if value else None
        return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one document holds."""

    form: str
    """`state`, `plan`, `show` or `backend`."""
    lineage: str
    items: tuple[Item, ...]
    too_deep: int = 0
    """Items left out because they are nested too deeply or too large."""


def parse_document(data: bytes) -> Contents | None:
    """Read a state, a plan or what `show -json` prints; `None` for JSON that is none of them, else `Malformed`."""
    try:
        root = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise Malformed("no valid JSON") from None
    if not isinstance(root, dict):
        return None
    lineage = str(root.get("lineage") or "")
    backend = _map(root.get("backend"))
    if "terraform_version" not in root and "lineage" not in root and "backend" not in root:
        return None
    if backend.get("type") and not root.get("resources"):
        found: Iterable[Item] = (
            Item(kind="backend", type=str(backend["type"]), address="backend", values=_map(backend.get("config"))),
        )
        return _bounded("backend", lineage, found)
    if "planned_values" in root or "resource_changes" in root:
        return _bounded("plan", lineage, _plan(root))
    if "values" in root and "format_version" in root:
        return _bounded("show", lineage, _values(_map(root["values"])))
    if "version" in root:
        return _bounded("state", lineage, _state(root) if "resources" in root or "outputs" in root else _old(root))
    return None


def _bounded(form: str, lineage: str, items: Iterable[Item]) -> Contents:
    kept, too_deep = [], 0
    for item in items:
        if fits(item.values):
            kept.append(item)
        else:
            too_deep += 1
    return Contents(form=form, lineage=lineage, items=tuple(kept), too_deep=too_deep)


def fits(value: Any) -> bool:
    """True of a value of at most 60 levels and 20,000 parts."""
    budget, pending = MAX_NODES, [(value, 0)]
    while pending:
        node, depth = pending.pop()
        budget -= 1
        if budget < 0 or depth > MAX_DEPTH:
            return False
        inner = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
        pending.extend((each, depth + 1) for each in inner)
    return True


def _state(root: Values) -> Iterator[Item]:
    """Version 4."""
    yield from _outputs(_map(root.get("outputs")))
    for resource in _maps(root.get("resources")):
        kind, named = str(resource.get("type", "")), str(resource.get("name", ""))
        module = f"{resource['module']}." if isinstance(resource.get("module"), str) else ""
        mode = "data" if resource.get("mode") == "data" else "resource"
        for instance in _maps(resource.get("instances")):
            key = instance.get("index_key")
            address = f"{module}{kind}.{named}" + (f"[{key}]" if key is not None else "")
            values = _map(instance.get("attributes")) or unflattened(_map(instance.get("attributes_flat")))
            yield Item(
                kind=mode, type=kind, address=address, values=values,
                sensitive=frozenset(_first_steps(instance.get("sensitive_attributes"))),
            )  # fmt: skip


def _first_steps(paths: Any) -> Iterator[str]:
    """The attribute with which each path of `sensitive_attributes` begins."""
    for path in paths if isinstance(paths, list) else ():
        step = path[0] if isinstance(path, list) and path else path
        value = _map(step).get("value")
        if isinstance(value, str):
            yield value


def _old(root: Values) -> Iterator[Item]:
    """Version 3: modules with flat attributes."""
    for module in _maps(root.get("modules"))[:MAX_MODULES]:
        path = [str(part) for part in module.get("path") or () if part != "root"]
        prefix = "".join(f"module.{part}." for part in path)
        yield from _outputs(_map(module.get("outputs")), prefix)
        for address, resource in _map(module.get("resources")).items():
            primary = _map(_map(resource).get("primary"))
            mode = "data" if address.startswith("data.") else "resource"
            yield Item(
                kind=mode, type=str(_map(resource).get("type", "")), address=f"{prefix}{address}",
                values=unflattened(_map(primary.get("attributes"))),
            )  # fmt: skip


def unflattened(flat: Values) -> dict[str, Any]:
    """`{"a.#": "1", "a.0.b": "x"}` → `{"a": [{"b": "x"}]}`, at most 20 levels."""
    root: dict[str, Any] = {}
    for key, value in flat.items():
        steps = str(key).split(".")
        if steps[-1] in ("#", "%") or len(steps) > 20:
            continue
        node = root
        for step in steps[:-1]:
            inner = node.setdefault(step, {})
            node = inner if isinstance(inner, dict) else node
        node[steps[-1]] = value
    return {key: _listed(value) for key, value in root.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(item) for key, item in value.items()}
    return list(inner.values()) if inner and all(key.isdigit() for key in inner) else inner


def _outputs(outputs: Values, prefix: str = "") -> Iterator[Item]:
    for named, output in outputs.items():
        holder = _map(output)
        yield Item(
            kind="output", type="output", address=f"{prefix}output.{named}", values={named: holder.get("value")},
            sensitive=frozenset([str(named)] if holder.get("sensitive") is True else ()),
        )  # fmt: skip


def _plan(root: Values) -> Iterator[Item]:
    seen: set[str] = set()
    for values in (_map(root.get("planned_values")), _map(_map(root.get("prior_state")).get("values"))):
        for item in _values(values):
            if item.kind == "output" or item.address not in seen:
                seen.add(item.address)
                yield item
    for named, variable in _map(root.get("variables")).items():
        yield Item(
            kind="variable", type="variable", address=f"var.{named}", values={named: _map(variable).get("value")}
        )
    for named, provider in _map(_map(root.get("configuration")).get("provider_config")).items():
        given = {
            key: _map(value).get("constant_value") for key, value in _map(_map(provider).get("expressions")).items()
        }
        yield Item(kind="provider", type=str(named), address=f"provider.{named}", values=given)


def _values(values: Values) -> Iterator[Item]:
    """The form of `planned_values` and of `show -json`: modules within modules, walked without recursion."""
    yield from _outputs(_map(values.get("outputs")))
    pending, count = [_map(values.get("root_module"))], 0
    while pending and count < MAX_MODULES:
        module = pending.pop()
        count += 1
        pending.extend(_maps(module.get("child_modules")))
        for resource in _maps(module.get("resources")):
            marked = _map(resource.get("sensitive_values"))
            yield Item(
                kind="data" if resource.get("mode") == "data" else "resource",
                type=str(resource.get("type", "")), address=str(resource.get("address", "")),
                values=_map(resource.get("values")),
                sensitive=frozenset(key for key, value in marked.items() if value not in (False, {}, [])),
            )  # fmt: skip


_BLOCKS = frozenset({"locals", "variable", "output", "moved", "import", "removed", "check"})


def from_blocks(blocks: Mapping[str, list[dict[str, Any]]]) -> Iterator[Item]:
    """What evaluated HCL declares."""
    for kind, found in blocks.items():
        for block in found:
            meta = _map(block.get("__tfmeta"))
            values = {key: value for key, value in block.items() if key not in ("__tfmeta", "id")}
            line = meta.get("line_start")
            place: dict[str, Any] = {
                "address": str(meta.get("path", kind)), "line": line if isinstance(line, int) else None,
                "file": str(meta.get("filename", "")),
            }  # fmt: skip
            if not fits(values):
                continue
            if kind == "terraform":
                yield from _backends(values, place)
            elif kind == "provider":
                yield Item(kind="provider", type=str(meta.get("label", "")), values=values, **place)
            elif kind == "module":
                yield Item(kind="module", type=str(meta.get("label", "")), values=values, **place)
            elif kind == "variable":
                named = place["address"].rpartition(".")[2]
                yield Item(kind="variable", type="variable", values={named: values.get("default")}, **place)
            elif kind in _BLOCKS:
                yield Item(kind=kind, type=kind, values=values, **place)
            else:
                yield Item(kind=str(meta.get("type") or "resource"), type=kind, values=values, **place)


def _backends(values: Values, place: dict[str, Any]) -> Iterator[Item]:
    backend = _map(values.get("backend"))
    if backend:
        meta = _map(backend.get("__tfmeta"))
        line = meta.get("line_start")
        yield Item(
            kind="backend", type=str(meta.get("label", "")),
            values={key: value for key, value in backend.items() if key not in ("__tfmeta", "id")},
            **{**place, "address": "terraform.backend", "line": line if isinstance(line, int) else place["line"]},
        )  # fmt: skip
    if cloud := _map(values.get("cloud")):
        kept = {key: value for key, value in cloud.items() if key not in ("__tfmeta", "id")}
        yield Item(kind="backend", type="remote", values=kept, **{**place, "address": "terraform.cloud"})


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
