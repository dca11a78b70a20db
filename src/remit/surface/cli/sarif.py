"""Findings as SARIF 2.1.0, for code-scanning pages and editors.

Spec: OASIS SARIF 2.1.0 §3.13 (log), §3.27 (result), §3.28 (location).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from remit import __version__
from remit.surface.places import short_place

_LEVEL = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
_SECURITY = {"critical": "9.5", "high": "8.0", "medium": "5.0", "low": "3.0", "info": "1.0"}


def sarif(findings: Sequence[dict[str, Any]], root: Path | None = None) -> dict[str, Any]:
    """One run of one tool; places below `root` are given relative to it."""
    rules = {each["rule"]: each for each in findings}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Remit",
                        "semanticVersion": __version__,
                        "rules": [
                            {"id": rule, "properties": {"security-severity": _SECURITY[each["severity"]]}}
                            for rule, each in sorted(rules.items())
                        ],
                    }
                },
                "results": [_result(each, root) for each in findings],
            }
        ],
    }


def _result(finding: dict[str, Any], root: Path | None) -> dict[str, Any]:
    path, line = _split(short_place(finding["place"]))
    shown = path
    if root is not None and Path(path).is_relative_to(root):
        shown = str(Path(path).relative_to(root))
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(shown)}}
    if line is not None:
        physical["region"] = {"startLine": line}
    return {
        "ruleId": finding["rule"],
        "level": _LEVEL[finding["severity"]],
        "message": {"text": f"{finding['title']}. {finding['next_step']}"},
        "locations": [{"physicalLocation": physical}],
        "partialFingerprints": {"remitFinding/v1": finding["id"]},
    }


def _split(place: str) -> tuple[str, int | None]:
    head, _, tail = place.rpartition(":")
    return (head, int(tail)) if head and tail.isdecimal() and int(tail) > 0 else (place, None)
