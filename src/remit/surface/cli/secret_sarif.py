"""Found secrets as SARIF 2.1.0: a region for editors, a fingerprint that says nothing of the value.

Spec: OASIS SARIF 2.1.0 §3.13 (log), §3.27 (result), §3.30 (region), §3.27.17 (partialFingerprints).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from remit import __version__


def sarif(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One run of one tool; paths are relative to where the command ran."""
    titles = {row["rule"]: row["what"] for row in rows}
    seen: Counter[str] = Counter()
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
                            {
                                "id": rule,
                                "shortDescription": {"text": f"A secret in clear: {title}"},
                                "help": {"text": "Replace it at its issuer, then take it out of the file."},
                                "properties": {"security-severity": "8.0", "tags": ["security", "secret"]},
                            }
                            for rule, title in sorted(titles.items())
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "where the scan ran"}}},
                "results": [_result(row, seen) for row in rows],
            }
        ],
    }


def _result(row: dict[str, Any], seen: Counter[str]) -> dict[str, Any]:
    path, _, commit = row["path"].partition("@") if row["commit"] else (row["path"], "", "")
    location: dict[str, Any] = {"artifactLocation": {"uri": quote(path)}}
    if not path.startswith("/"):
        location["artifactLocation"]["uriBaseId"] = "%SRCROOT%"
    if row["line"]:
        location["region"] = {"startLine": row["line"]}
        if row["column"]:
            location["region"] |= {"startColumn": row["column"], "endColumn": row["end_column"]}
    # Without the value: a weak password must not be guessable from an uploaded report.
    place = f"{row['rule']}\0{path}\0{row['variable']}"
    seen[place] += 1
    text = f"{row['what']} lies in clear" + (f" in `{row['variable']}`" if row["variable"] else "")
    text += f"; it is of {row['who']}" if row["who"] else ""
    text += f"; in history since {commit}" if commit else ""
    return {
        "ruleId": row["rule"],
        "level": "error" if row["confidence"] >= 80 and not row["harmless"] else "warning",
        "rank": float(row["confidence"]),
        "message": {"text": f"{text}. Replace it at its issuer, then take it out of the file."},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {
            "remitSecret/v1": hashlib.sha256(f"{place}\0{seen[place]}".encode("utf-8", "replace")).hexdigest()
        },
    }
