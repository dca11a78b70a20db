"""What `remit revoke` takes, and what it refuses."""

from __future__ import annotations

import pytest

from remit.kernel.errors import Rejected
from remit.trust.revocation import Subject, SubjectKind

ULID = "01M82HYZ9BYSBD34D75FK2DSVJ"


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("serial:0A:bC:1", SubjectKind.SERIAL, "abc1"),
        ("serial:0x00ff", SubjectKind.SERIAL, "ff"),
        ("jti:0123456789abcdef", SubjectKind.JTI, "0123456789abcdef"),
        ("spiffe://remit.test/a", SubjectKind.SPIFFE, "spiffe://remit.test/a"),
        (f"en_{ULID}", SubjectKind.ENTRY, f"en_{ULID}"),
        (f"entry:en_{ULID}", SubjectKind.ENTRY, f"en_{ULID}"),
        (f"agent:ag_{ULID}", SubjectKind.AGENT, f"ag_{ULID}"),
        (f"au_{ULID}", SubjectKind.AUTHORITY, f"au_{ULID}"),
        (f"grant:gr_{ULID}", SubjectKind.GRANT, f"gr_{ULID}"),
        ("owner:team:payments", SubjectKind.OWNER, "team:payments"),
        ("node:join_token/web-1", SubjectKind.NODE, "join_token/web-1"),
        ("identity:urn:remit:x:y:z:w", SubjectKind.IDENTITY, "urn:remit:x:y:z:w"),
    ],
)
def test_each_form_is_read_and_written_back(text: str, kind: SubjectKind, value: str) -> None:
    found = Subject.parse(text)
    assert (found.kind, found.value) == (kind, value)
    assert Subject.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "serial:", "serial:xyz", "serial:" + "a" * 41, "jti:short", "jti:" + "a" * 65, "jti:a b c d e f g", "entry:en_1",
     "en_1", "agent:en_" + ULID, "owner:", "owner:a\nb", "owner:" + "a" * 257, "shop", "ls_" + ULID, "SERIAL:ff"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        Subject.parse(text)
    assert refused.value.code == "trust.revocation.subject"
    assert len(refused.value.message) < 400
