"""What each word of a policy means, and who says it: one sentence for every attribute of the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from remit.access.policy.schema import CLAIMS, IDENTITY_ATTRIBUTES, RESOURCE_ATTRIBUTES, Kind, context_kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One attribute."""

    path: str
    """As a policy writes it."""
    kind: Kind
    always: bool
    """False: test with `has` first."""
    says: str
    """`registry`, `proof`, `decision point`, `person` (approved), or `caller` (claimed)."""
    sentence: str


_IDENTITY: Final[Mapping[str, str]] = {
    "name": "The identity's first name: a URN or a SPIFFE ID.",
    "kind": "What sort of identity it is: workload, ai-agent, service-account, ….",
    "state": "Its state of life: only `active` and `rotating` come as far as policies.",
    "owner": "Who answers for it: `person:NAME` or `team:NAME`.",
    "owner_active": "Whether that owner is a registered, active person, or a team with one.",
    "tier": "How dangerous it is: 0 is the most; not assessed counts as 0 if privileged, else 1.",
    "environment": "Where it belongs: production, test, ….",
    "service": "The service that it is part of.",
    "purpose": "What it is for.",
    "autonomy": "How far an agent acts by itself.",
    "system": "The system of record that it was read from.",
    "privileged": "Whether it has standing rights of an administrator somewhere.",
    "quarantined": "Whether it is quarantined: then no policy is asked at all.",
    "risk": "0 to 100, from its incidents that are not closed and its findings (`docs/policies.md`, Risk).",
    "blast_radius": "How many resources whoever has it can get; 1000000000 while it was not counted yet.",
    "partner": "The foreign trust domain whose SPIFFE ID it has.",
    "partner_id": "That SPIFFE ID.",
}
_RESOURCE: Final[Mapping[str, str]] = {
    "name": "Its name: `target/NAME` of a target, else `TYPE/ID`.",
    "kind": "What sort of resource it is.",
    "known": "Whether the registry knows it.",
    "system": "The system that it is on.",
    "sensitivity": "public, internal, confidential or restricted; what nobody confirmed counts as restricted.",
    "environment": "Where it belongs.",
    "owner": "Who answers for it.",
}
_CONTEXT: Final[Mapping[str, str]] = {
    "attested": "Whether an attestor saw the very process, node or platform job that asks.",
    "attestation_method": "By which proof: unix, x509-svid, jwt-svid, oidc, tpm, ….",
    "attested_at": "When that was, in seconds since 1970.",
    "attestation_age": "How many seconds ago that was; the decision point's own arithmetic.",
    "step_up_at": "When a second, different proof was shown (`remit step-up`), in seconds since 1970.",
    "selectors": "What the attestor saw, e.g. `unix:uid:1000`.",
    "sha256": "Digest of the program that runs.",
    "grant": "Id of the grant under which it acts: its own, unexpired and as approved, else refused before.",
    "grant_digest": "Digest of that grant as the asker has it.",
    "lease": "Id of the lease that is renewed.",
    "credential": "Id of the token or credential that was shown.",
    "task": "Name of the registered task within which it acts.",
    "task_digest": "Digest of that task's definition.",
    "role": "The role that is asked for on a target.",
    "database": "The database that is asked for on a target.",
    "target": "The target of a lease.",
    "node": "The machine whose agent vouches for it.",
    "source_address": "Where it comes from: the connection of who asks itself, else what a registered point says.",
    "user": "A person for whom it acts, as an enforcement point proved it.",
    "device": "That person's device, as an enforcement point proved it.",
    "application": "The application in between, as an enforcement point proved it.",
    "location": "Where it is, as an enforcement point proved it.",
    "destination": "Where data would go, as an enforcement point proved it.",
    "environment": "The environment of the request, as an enforcement point proved it.",
    "scope": "The scope of the token that is asked for, or shown.",
    "client": "The client of the token service.",
    "sender_constraint": "How the sender is bound to its key: mtls, dpop, mtls+dpop, or empty.",
    "actors": "The chain of who acts, outermost first.",
    "on_behalf_of": "The subject for whom it acts.",
    "intent": "Id of the agent's approved intent.",
    "tool": "The tool that is called, as the gateway read it.",
    "data_label": "The highest label of the data that the session has read.",
    "argument_origins": "Where the arguments come from, by the gateway's own records.",
    "tainted": "Whether the session has read what nobody vouches for.",
    "authorization_type": "Type of the authorization details that are asked for.",
    "authorization_actions": "Their actions.",
    "authorization_locations": "Their locations.",
    "exception": "Whether any approved exception excuses this very request.",
    "exceptions": "The rules from which approved exceptions in force excuse it.",
    "time": "The decision point's clock.",
}
_APPROVED: Final = frozenset({"exception", "exceptions"})
_OWN: Final = frozenset({"time", "attestation_age"})


def words() -> Iterator[Word]:
    """Every attribute that a policy may read, in the order of the schema."""
    for variable, kinds, sentences in (
        ("principal", IDENTITY_ATTRIBUTES, _IDENTITY),
        ("resource", RESOURCE_ATTRIBUTES, _RESOURCE),
    ):
        for name, kind in kinds.items():
            bare = name.removesuffix("?")
            yield Word(
                path=f"{variable}.{bare}", kind=kind, always=bare == name, says="registry", sentence=sentences[bare]
            )
    for name, kind in context_kinds().items():
        bare = name.removesuffix("?")
        says = "person" if bare in _APPROVED else "decision point" if bare in _OWN else "proof"
        yield Word(
            path=f"context.{bare}", kind=kind, always=bare == name, says=says, sentence=_CONTEXT[bare]
        )  # fmt: skip
    for name, kind in CLAIMS.items():
        yield Word(
            path=f"context.claimed.{name}", kind=kind, always=False, says="caller",
            sentence="What the caller says of itself, unproven.",
        )  # fmt: skip
