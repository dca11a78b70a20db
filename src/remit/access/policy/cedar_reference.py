"""Plain Cedar decided by cedarpy alone: for what our own reading of policies, entities or schemas does not cover.

Spec: Cedar language reference, "Authorization".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from remit.access.policy.source import TemplateLink
from remit.kernel.errors import Rejected

_ERRED = re.compile(r"`(.*?)`: ", re.DOTALL)


class PlainReference:
    """One policy set over one set of entities, as cedarpy reads them; policies have Cedar's own ids.

    Raises `Rejected` (`access.policy.entities`) for what cedarpy refuses.
    """

    def __init__(self, policies: str, entities: str, schema: str, links: Sequence[TemplateLink]) -> None:
        import cedarpy

        try:
            self._policies = cedarpy.PolicySet.from_str(policies)
            if links:
                self._policies = self._policies.with_linked_batch([_link(one) for one in links])
            self._schema, self._entities = _read(entities, schema)
        except ValueError as error:
            raise _refused(str(error)) from None

    def ask(self, request: Mapping[str, Any]) -> tuple[bool, frozenset[str], Mapping[str, str]]:
        """Whether it is allowed, the policies that determined it, and what went wrong by policy.

        The request is read by the schema; one that does not fit it is decided all the same. `Rejected` where it
        cannot be read at all.
        """
        import cedarpy

        for schema in dict.fromkeys((self._schema, None)):
            answer = cedarpy.is_authorized(dict(request), self._policies, self._entities, schema=schema)
            if answer.decision is not cedarpy.Decision.NoDecision:
                messages = {_policy(text): text for text in answer.diagnostics.errors}
                return answer.allowed, frozenset(answer.diagnostics.reasons), messages
        raise _refused("; ".join(answer.diagnostics.errors))

    def check(self, request: Mapping[str, Any]) -> None:
        """Hold a request to the schema. `Rejected` where it does not fit."""
        import cedarpy

        answer = cedarpy.is_authorized(dict(request), self._policies, self._entities, schema=self._schema)
        if answer.decision is cedarpy.Decision.NoDecision:
            raise _refused("; ".join(answer.diagnostics.errors))


def is_valid(policies: str, schema: str) -> bool:
    """Whether cedarpy's validator passes policies under a schema. `Rejected` where it cannot read the schema."""
    import cedarpy

    try:
        return bool(cedarpy.validate_policies(policies, _schema(schema)).validation_passed)
    except ValueError as error:
        raise _refused(str(error)) from None


def check_entities(entities: str, schema: str) -> None:
    """Hold entities to their form and to the schema. `Rejected` (`access.policy.entities`) where they do not fit."""
    try:
        _read(entities, schema)
    except ValueError as error:
        raise _refused(str(error)) from None


def _read(entities: str, schema: str) -> tuple[Any, Any]:
    import cedarpy

    made = _schema(schema) if schema else None
    return made, cedarpy.Entities.from_json_str(entities, made)


def _schema(text: str) -> Any:
    import cedarpy

    in_json = text.lstrip().startswith("{")
    return cedarpy.Schema.from_json_str(text) if in_json else cedarpy.Schema.from_str(text)


def _link(link: TemplateLink) -> dict[str, Any]:
    values = {slot: {"type": kind, "id": name} for slot, (kind, name) in link.values.items()}
    return {"template_id": link.template, "new_id": link.id, "values": values}


def _policy(message: str) -> str:
    """`error while evaluating policy `policy3`: …` → `policy3`."""
    found = _ERRED.search(message)
    return found[1] if found else message


def _refused(why: str) -> Rejected:
    return Rejected("access.policy.entities", f"this cannot be decided: {why[:300]}")
