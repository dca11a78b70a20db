"""`check`: is this policy text well formed, typed, and what its author meant?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from remit.access.model import Effect
from remit.access.policy.approvals import KIND as APPROVAL
from remit.access.policy.approvals import parse_requirement
from remit.access.policy.codegen import Uncovered, compile_policy, new_namespace
from remit.access.policy.schema import IDENTITY, STANDARD, Vocabulary, actions_named, is_action_name
from remit.access.policy.source import PolicyProblem, PolicySource, TemplateLink, scan
from remit.access.policy.templates import linked
from remit.kernel.errors import Rejected
from remit.kernel.ids import is_id

_NAMED = re.compile(r"`([^`]+)`")
_PREFIX = re.compile(r"^for policy `policy[0-9]+`, ")


def check(
    text: str, vocabulary: Vocabulary = STANDARD, *, links: Sequence[TemplateLink] | None = None
) -> list[PolicyProblem]:
    """Every problem of a policy text, in the order of its lines; errors forbid activation, advice does not.

    Policies that parse are validated against the schema; one that does not parse never hides the others. With `links`
    templates are allowed: what each link makes is checked, and a template without any is worth a word. Without, a
    template is an error: what is put in force has none.
    """
    sources, problems = scan(text, templates=links is not None)
    found = [*problems]
    if links is not None:
        sources, templates = _apart(sources)
        found += _unlinked(templates, links)
        try:
            sources = (*sources, *linked(templates, links))
        except Rejected as wrong:
            found.append(
                PolicyProblem(code=wrong.code, line=1, policy="", message=str(wrong), next_step=wrong.next_step)
            )
    found += _validate(sources, vocabulary)
    for source in sources:
        found += _advise(source, vocabulary)
    return sorted(found, key=lambda problem: (problem.line, not problem.error, problem.code))


def _apart(sources: Iterable[PolicySource]) -> tuple[tuple[PolicySource, ...], tuple[PolicySource, ...]]:
    """Policies, and templates."""
    known = tuple(sources)
    return tuple(each for each in known if not each.slots), tuple(each for each in known if each.slots)


def _unlinked(templates: Iterable[PolicySource], links: Iterable[TemplateLink]) -> Iterator[PolicyProblem]:
    wanted = {link.template for link in links}
    for template in templates:
        if template.id not in wanted:
            text = "it is a template that nothing links: it decides nothing, and is left out"
            yield _advice(template, "unlinked-template", text, "link it in `links.json`, or name the entity itself")


def _validate(sources: Sequence[PolicySource], vocabulary: Vocabulary) -> Iterator[PolicyProblem]:
    import cedarpy

    if not sources:
        return
    generic = {name for source in sources for name in actions_named(source.est) if is_action_name(name)}
    result = cedarpy.validate_policies("\n".join(source.text for source in sources), vocabulary.schema(generic))
    by_position = {f"policy{ordinal}": source for ordinal, source in enumerate(sources)}
    for error in result.errors:
        source = by_position.get(error.policy_id)
        message = _PREFIX.sub("", error.error)
        yield PolicyProblem(
            code="access.policy.type",
            line=_line(source, message) if source else 1,
            policy=source.id if source else "",
            message=message,
            next_step="docs/policies.md lists what policies can name",
        )


def _line(source: PolicySource, message: str) -> int:
    """The engine gives no position: the first name in its message that stands in the text."""
    for name in _NAMED.findall(message):
        at = source.text.find(name)
        if at >= 0:
            return source.line + source.text.count("\n", 0, at)
    return source.line


def _advise(source: PolicySource, vocabulary: Vocabulary) -> Iterator[PolicyProblem]:
    known = vocabulary.known_actions()
    for name in sorted(set(actions_named(source.est)) - known):
        if is_action_name(name):
            text = f"the action `{name}` is none of Remit's own: it is matched by that exact name"
            yield _advice(source, "generic-action", text, "look for a misspelling")
    if "id" not in source.annotations:
        text = "it has no `@id`: decisions will name it by its position"
        yield _advice(source, "unnamed", text, 'add `@id("…")` in front of it')
    if "reason" not in source.annotations:
        text = "it has no `@reason`: a person will read its first line instead"
        yield _advice(source, "unexplained", text, 'add `@reason("…")` in front of it')
    if "obligation" in source.annotations and source.effect is Effect.FORBID:
        yield _advice(source, "obligation-on-forbid", "`@obligation` means nothing on a forbid", "put it on the permit")
    yield from _check_approvals(source)
    principal = source.est["principal"]
    if (
        principal["op"] == "=="
        and principal["entity"]["type"] == IDENTITY
        and not is_id("id", principal["entity"]["id"])
    ):
        text = "`principal ==` matches the registry's id alone, and this is no such id"
        yield _advice(source, "name-equality", text, "write `principal in` to match by any name")
    try:
        compile_policy(source.est, new_namespace())
    except Uncovered as unknown:
        yield _advice(source, "reference-engine", f"it is evaluated by the slow reference engine: {unknown}", "")


def _check_approvals(source: PolicySource) -> Iterator[PolicyProblem]:
    """A permit that says who approves says it in the language of `access.policy.approvals`."""
    for written in source.annotations.get("obligation", "").split(","):
        kind, _, detail = written.partition(":")
        if kind.strip() == APPROVAL:
            try:
                parse_requirement(detail.strip())
            except Rejected as malformed:
                yield PolicyProblem(
                    code=malformed.code,
                    line=source.line,
                    policy=source.id,
                    message=malformed.message,
                    next_step=malformed.next_step,
                )


def _advice(source: PolicySource, what: str, message: str, next_step: str) -> PolicyProblem:
    return PolicyProblem(
        code=f"access.policy.{what}",
        line=source.line,
        policy=source.id,
        message=message,
        next_step=next_step,
        error=False,
    )


def errors_of(problems: Iterable[PolicyProblem]) -> list[PolicyProblem]:
    """The problems that forbid activation."""
    return [problem for problem in problems if problem.error]
