"""Which subjects a repository's runs get in their identity tokens, and who can make it run what they like.

Who may change a workflow gives it `id-token: write` and names an environment: neither is a condition for them. What is
one: rules of the branch, reviewers and branches of an environment, and what a run must be (a pull request).

Spec: GitHub Docs, "OpenID Connect reference" (subject claims, `include_claim_keys`), "Managing environments".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A subject (or, with `*`, a pattern of them) that runs of a repository can have."""

    text: str
    conditions: tuple[str, ...] = ()


def subjects(slug: str, branch: str, context: Mapping[str, Any]) -> Iterator[Subject]:
    """Those of the default branch and of pull requests. `context` says whether the branch is protected, and how the
    subject is made where that was changed (`subject_keys`)."""
    guard = guard_of(branch, context)
    keys = [str(each) for each in context.get("subject_keys") or ()]
    yield Subject(text=subject(slug, f"ref:refs/heads/{branch}", keys), conditions=guard)
    yield Subject(text=subject(slug, "pull_request", keys), conditions=("a run for a pull request",))


def guard_of(branch: str, context: Mapping[str, Any]) -> tuple[str, ...]:
    """What stands between the right to push and the default branch; nothing where it is known to be unprotected."""
    if context.get("protected") is False:
        return ()
    if context.get("protected") is True:
        return (f"the rules of branch {branch} let the change through",)
    return (f"no rule protects branch {branch}: that could not be seen",)


def subject(slug: str, run: str, keys: Sequence[str]) -> str:
    """The subject of a run (`ref:…`, `pull_request`, `environment:…`) as GitHub makes it of `keys`; without any: the
    usual one. A claim whose value only the run knows becomes `*`."""
    owner = slug.partition("/")[0]
    known = {"repo": f"repo:{slug}", "context": run, "repository": f"repository:{slug}",
             "repository_owner": f"repository_owner:{owner}"}  # fmt: skip
    if run.startswith("ref:"):
        known |= {"ref": run}
    if run.startswith("environment:"):
        known |= {"environment": run}
    return ":".join(known.get(key, f"{key}:*") for key in (keys or ("repo", "context")))


def gates_of(environment: Mapping[str, Any]) -> list[str]:
    """What a job must pass before it has the environment: reviewers, a branch that is allowed, a timer is none."""
    rules = {str(rule.get("type")): rule for rule in environment.get("protection_rules") or ()}
    reviewers = len((rules.get("required_reviewers") or {}).get("reviewers") or ())
    policy = environment.get("deployment_branch_policy")
    gates = [f"one of {reviewers} reviewers lets it through"] * bool(reviewers)
    if isinstance(policy, Mapping):
        which = "a protected branch" if policy.get("protected_branches") else "a branch or tag that it allows"
        gates.append(f"the run is on {which}")
    known = {"required_reviewers", "branch_policy", "wait_timer"}
    gates += [f"its rule {kind} lets it through" for kind in sorted(set(rules) - known)]
    return gates


def pushes(actions: Sequence[str]) -> tuple[str, ...] | None:
    """Under which conditions an app's or token's permissions change what workflows do; `None`: they do not."""
    given = dict(each.partition(":")[::2] for each in actions)
    if given.get("contents") != "write":
        return None
    if given.get("workflows") == "write":
        return ()
    return ("a workflow runs code of the repository: it may not change workflows themselves",)
