"""A blast radius in words: a tree for a terminal, a document for a program."""

from __future__ import annotations

import unicodedata
from itertools import islice

from remit.inventory.graph.blast import Blast
from remit.inventory.graph.model import Edge, Node
from remit.inventory.graph.tree import Branch, fold
from remit.kernel.canonical import Json

_ACTIONS_SHOWN = 3


def render_text(blast: Blast, *, limit: int = 200) -> str:
    """Draw the proof tree with a summary: at most `limit` nodes, control characters of names replaced."""
    root = fold(blast, limit)
    lines = [_summary(blast), "", _label(root)]
    stack: list[tuple[Branch | int, str, bool]] = _below(root, "")
    while stack:
        item, indent, last = stack.pop()
        label = f"+{item} more" if isinstance(item, int) else _label(item)
        lines.append(f"{indent}{'└── ' if last else '├── '}{label}")
        if isinstance(item, Branch):
            stack.extend(_below(item, indent + ("    " if last else "│   ")))
    return "\n".join(lines) + "\n"


def render_document(blast: Blast, *, limit: int = 100_000) -> dict[str, Json]:
    """Describe the blast radius as JSON: totals over everything, and the first `limit` nodes with their last step.

    A node's whole path is read by following `via.source` from node to node.
    """
    return {
        "start": node_document(blast.start),
        "score": blast.score,
        "certain_score": blast.certain_score,
        "reached": len(blast),
        "truncated": len(blast) > limit,
        "by_sensitivity": dict(blast.by_sensitivity),
        "by_kind": dict(blast.by_kind),
        "becomes": [node_document(node) for node in blast.becomes[:limit]],
        "environments": list(blast.environments),
        "crossed": list(blast.crossed),
        "nodes": [
            {
                **node_document(reached.node),
                "distance": reached.distance,
                "conditional": reached.conditional,
                "via": {**edge_document(reached.via), "source": parent.name},
            }
            for parent, reached in islice(blast.parents(), limit)
        ],
    }


def node_document(node: Node) -> dict[str, Json]:
    """One node as JSON."""
    return {
        "name": node.name,
        "category": node.category.value,
        "kind": node.kind,
        "title": node.title,
        "sensitivity": node.sensitivity.value if node.sensitivity else None,
        "environment": node.environment,
    }


def edge_document(edge: Edge) -> dict[str, Json]:
    """One edge as JSON."""
    return {
        "source": edge.source,
        "relation": edge.relation.value,
        "target": edge.target,
        "evidence": edge.evidence,
        "actions": list(edge.actions),
        "conditions": list(edge.conditions),
        "cut": edge.cut,
    }


def printable(text: str) -> str:
    """`text` on one line: control, format and surrogate characters (terminal escapes, bidi) become `�`."""
    return "".join("�" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char for char in text)


def _summary(blast: Blast) -> str:
    harm = ", ".join(f"{count} {label}" for label, count in blast.by_sensitivity.items() if count)
    parts = [
        f"score {blast.score}" + (f" ({blast.certain_score} certain)" if blast.certain_score != blast.score else ""),
        f"{len(blast)} reached",
        f"becomes {blast.becomes_count} other {'identity' if blast.becomes_count == 1 else 'identities'}",
    ]
    if harm:
        parts.append(f"resources: {harm}")
    if blast.crossed:
        parts.append(f"crosses into {printable(', '.join(blast.crossed))}")
    return " · ".join(parts)


def _label(branch: Branch) -> str:
    node = branch.node
    words = [node.kind, *([node.sensitivity.value] if node.sensitivity else []), *filter(None, [node.environment])]
    text = f"{printable(node.title)} [{printable(', '.join(words))}]"
    if branch.via is None:
        return text
    text = f"{branch.via.relation.value} → {text}"
    if branch.via.actions:
        text += f" {printable(shorten_actions(branch.via.actions))}"
    if branch.via.conditions:
        text += f" if {printable('; '.join(branch.via.conditions))}"
    elif branch.conditional:
        text += " (conditional)"
    return text


def shorten_actions(actions: tuple[str, ...]) -> str:
    """The first actions, and how many more there are."""
    more = len(actions) - _ACTIONS_SHOWN
    return ", ".join(actions[:_ACTIONS_SHOWN]) + (f" +{more}" if more > 0 else "")


def _below(branch: Branch, indent: str) -> list[tuple[Branch | int, str, bool]]:
    """What to draw under a branch, last first: its children, then the fold mark."""
    items: list[Branch | int] = [*branch.children, *([branch.folded] if branch.folded else [])]
    last = len(items) - 1
    return [(item, indent, at == last) for at, item in enumerate(items)][::-1]
