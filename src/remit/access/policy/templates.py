"""Templates at activation: each link becomes a plain policy of its own, so that what is in force has no slots.

A folder of policies may hold `links.json`, Cedar's own list of template links. The text that is checked, proved and
signed is the expanded one; a template that nothing links decides nothing, and is left out.

Spec: Cedar language reference, "Templates".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from remit.access.policy.source import PolicySource, TemplateLink, link_templates, quoted, read_templates
from remit.kernel.errors import Rejected

MAX_LINKS = 20_000
_HEAD = re.compile(r'(?:\s*@\w+(?:\s*\(\s*"(?:\\.|[^"\\])*"\s*\))?(?:\s|//[^\n]*\n)*)*')
_ID = re.compile(r'@id(?:\s*\(\s*"(?:\\.|[^"\\])*"\s*\))?\s*')


def expand(text: str, links: Sequence[TemplateLink]) -> str:
    """The text with its templates taken out, and a policy for each link at its end, named by the link.

    Raises `Rejected`: what `read_templates` raises, and `access.policy.link` for a link that does not fit.
    """
    policies, templates = read_templates(text)
    if not templates and not links:
        return text
    for template in templates:
        text = text.replace(template.text, f"// The template `{_plain(template.id)}` stood here.\n", 1)
    made = linked(templates, links)
    taken = {policy.id for policy in policies}
    for link in made:
        if link.id in taken:
            raise Rejected(
                "access.policy.link",
                f"the link `{link.id[:80]}` has the id of a policy",
                next_step="give the link another id",
            )
    return "\n".join((text, *(each.text for each in made), ""))


def linked(templates: Sequence[PolicySource], links: Sequence[TemplateLink]) -> tuple[PolicySource, ...]:
    """The policy that each link makes, its own id written into its text. Raises `Rejected` (`access.policy.link`)."""
    if len(links) > MAX_LINKS:
        raise Rejected("access.policy.link", f"there are more than {MAX_LINKS} links", next_step="link groups instead")
    return tuple(replace(each, text=_named(each)) for each in link_templates(templates, links))


def _named(source: PolicySource) -> str:
    """The statement with `@id` of the link in place of the template's."""
    head = _HEAD.match(source.text)
    end = head.end() if head else 0
    annotations = _without_id(source.text[:end])
    return f"@id({quoted(source.id)})\n{annotations}{source.text[end:]}"


def _without_id(head: str) -> str:
    """Annotations without `@id`; one that stands in another's text is no annotation."""
    kept, at = [], 0
    for match in re.finditer(r'@\w+(?:\s*\(\s*"(?:\\.|[^"\\])*"\s*\))?|//[^\n]*', head):
        kept.append(head[at : match.start()])
        if not _ID.fullmatch(match.group()):
            kept.append(match.group())
        at = match.end()
    return "".join((*kept, head[at:])).lstrip()


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:120]
