"""The Kubernetes authorization webhook: SubjectAccessReview v1 in, allowed, denied or no opinion out.

    who                         service accounts that the inventory knows; of anybody else there is no opinion
    what                        get, watch: `read`; list: `list`; create, update, patch: `write`; delete,
                                deletecollection: `delete`; exec, attach, portforward, proxy: `execute`;
                                any other verb: `kubernetes:VERB`
    on what                     `kubernetes/INSTANCE/NAMESPACE/GROUP/RESOURCE[/NAME]`, `-` where there is none
    a path of the API server    `kubernetes/INSTANCE/-/url/PATH`

A denial is final (`denied`). A permit is no opinion, so that RBAC must permit as well, unless the table says
`allows = true`. A review that cannot be decided is answered with an error status: the cluster's `failurePolicy` holds.

Spec: Kubernetes, Authorization, "Webhook Mode"; authorization.k8s.io/v1 SubjectAccessReview.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from remit.access.enforcers.model import Asker
from remit.access.enforcers.ports import DecisionEngine
from remit.access.model import Entity, Request
from remit.access.policy.schema import is_action_name
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.kernel.ids import name
from remit.kernel.strict import NotStrict, read_object
from remit.surface.enforcers.gate import reason_of, require_enforcer
from remit.surface.enforcers.tables import Proxy, Table, Tables

_ACCOUNT: Final = "system:serviceaccount:"
_ACTIONS: Final[Mapping[str, str]] = {
    "get": "read", "watch": "read", "list": "list", "create": "write", "update": "write", "patch": "write",
    "delete": "delete", "deletecollection": "delete",
}  # fmt: skip
_ENTERING: Final = frozenset({"exec", "attach", "portforward", "proxy"})
"""Subresources by which one gets into what runs, whatever the verb."""
_MAX_BYTES: Final = 256 * 1024
_MOST: Final = 900


class ResourceAttributes(msgspec.Struct, frozen=True, rename="camel"):
    namespace: str = ""
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


class NonResourceAttributes(msgspec.Struct, frozen=True):
    path: str = ""
    verb: str = ""


class ReviewSpec(msgspec.Struct, frozen=True, rename="camel"):
    user: str = ""
    uid: str = ""
    groups: list[str] = []
    resource_attributes: ResourceAttributes | None = None
    non_resource_attributes: NonResourceAttributes | None = None


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """What an API server sends. Fields that are not named here do not count."""

    api_version: str
    kind: str
    spec: ReviewSpec


class Reviews:
    """Answers the reviews of registered clusters."""

    def __init__(self, tables: Tables, engine: DecisionEngine) -> None:
        self._tables = tables
        self._engine = engine

    async def answer(self, body: bytes, asker: Asker) -> dict[str, Any]:
        """The review with its status.

        Raises `Denied` (`access.enforcer.unregistered`, `.table`, `.bounds`), `Rejected`
        (`surface.enforcer.review`), `Unavailable`: none of which is a permit.
        """
        table = self._tables.require(require_enforcer(asker).name, Proxy.KUBERNETES)
        review = parse_review(body)
        subject = subject_of(review.spec.user, table)
        if subject is None or self._engine.snapshot.identity(subject) is None:
            return _reviewed(allowed=False, denied=False, reason="no identity of the inventory asks")
        action, resource = asked_of(review.spec, table)
        decision = await self._engine.decide(
            Request(subject=Entity(type="identity", id=subject), action=action, resource=resource, proven=_FACTS),
            asker,
        )
        if decision.allowed:
            return _reviewed(allowed=table.allows, denied=False, reason=f"permitted by {decision.id}")
        return _reviewed(allowed=False, denied=True, reason=f"{reason_of(decision)} ({decision.id})")


_FACTS: Final[Mapping[str, Json]] = {"attested": False}
"""The API server authenticated whoever asks; how, it does not say."""


def parse_review(body: bytes) -> Review:
    """Read a SubjectAccessReview v1. `Rejected` (`surface.enforcer.review`)."""
    try:
        review = msgspec.convert(read_object(body, max_bytes=_MAX_BYTES), Review)
    except (NotStrict, msgspec.ValidationError) as error:
        raise _rejected(str(error)) from None
    if review.api_version != "authorization.k8s.io/v1" or review.kind != "SubjectAccessReview":
        raise _rejected("it is no SubjectAccessReview of authorization.k8s.io/v1")
    if (review.spec.resource_attributes is None) == (review.spec.non_resource_attributes is None):
        raise _rejected("it asks for a resource and a path at once, or for neither")
    return review


def subject_of(user: str, table: Table) -> str | None:
    """The inventory's name of a service account; `None` for any other user."""
    if not user.startswith(_ACCOUNT):
        return None
    namespace, colon, account = user[len(_ACCOUNT) :].partition(":")
    if not namespace or not colon or not account or len(user) > _MOST or "/" in user:
        return None
    return name("kubernetes", table.instance, "serviceaccount", f"{namespace}/{account}")


def asked_of(spec: ReviewSpec, table: Table) -> tuple[str, Entity]:
    """The action and the resource of a review. `Rejected` (`surface.enforcer.review`)."""
    wanted = spec.resource_attributes
    if wanted is None:
        asked = spec.non_resource_attributes
        assert asked is not None, "checked when it was parsed"
        return _action(asked.verb, ""), _resource(table.instance, "-", "url", asked.path.lstrip("/") or "-")
    kind = f"{wanted.resource}.{wanted.subresource}" if wanted.subresource else wanted.resource
    parts = [wanted.namespace or "-", wanted.group or "-", kind or "-"]
    if wanted.name:
        parts.append(wanted.name)
    if any("/" in part for part in parts):
        raise _rejected("a name in it has a slash")
    return _action(wanted.verb, wanted.subresource), _resource(table.instance, *parts)


def _action(verb: str, subresource: str) -> str:
    if subresource in _ENTERING:
        return "execute"
    action = _ACTIONS.get(verb, f"kubernetes:{verb}")
    if not is_action_name(action):
        raise _rejected("its verb is none")
    return action


def _resource(*parts: str) -> Entity:
    text = "/".join(parts)
    if len(text) > _MOST or not text.isprintable():
        raise _rejected("what it asks for has too long a name")
    return Entity(type="kubernetes", id=text)


def _reviewed(*, allowed: bool, denied: bool, reason: str) -> dict[str, Any]:
    status = {"allowed": allowed, **({"denied": True} if denied else {}), "reason": reason}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status}


def _rejected(why: str) -> Rejected:
    return Rejected("surface.enforcer.review", f"the review cannot be read: {why}")
