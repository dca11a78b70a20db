"""No fact holds a secret or a telling part of it, wherever its neighbours repeat it; and no bytes end a scan."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.inventory.connectors.files.record import Repository
from remit.inventory.connectors.files.testing import fingerprint
from remit.inventory.model import CredentialKind, Place
from remit.inventory.owners import parse_codeowners
from remit.inventory.secrets.binding import bind
from remit.inventory.secrets.facts import Reach, Spot, facts_of
from remit.inventory.secrets.found import GRAM, Guard, find
from remit.inventory.secrets.ignores import ignore_at
from remit.inventory.secrets.model import Blob, Hit

NOW = datetime(2026, 11, 23, tzinfo=UTC)
VALUES = st.text(st.sampled_from("abcdefgABCDEFG0123456789-_+/=!@:%"), min_size=12, max_size=60).filter(
    lambda text: len(set(text)) > 6 and not re.fullmatch(r"[a-z/._ -]*", text)
)
TEXTS = (
    "password = '{v}'\n", "postgres://{v}:{v}@{v}.db/{v}\n", "user={v}\nhost={v}\n{v} = {v}\n",
    "client_email: {v}\nsecret: {v} # remit:ignore until=2026-12-31 reason={v}\n", '{{"auths": {{"{v}": {{"auth": "{v}"}}}}}}\n',
    "AccountName={v};AccountKey={v}\n", "//{v}/:_authToken={v}\n", "https://x:{v}@github.com/{v}/{v}.git\n",
)  # fmt: skip
SPOT = Spot(
    place=Place(system="host:0123", path="/srv/app/x", line=1), host="0123", account="app", within="x",
    repository=Repository(root="/srv/app", git_dir="/srv/app/.git", forge="github.com", slug="acme/app",
                          owner_rules=parse_codeowners("* @acme/all")),
    reach=Reach.HISTORY, commit="ab" * 20, author="Carol <carol@acme.com>", committed=NOW,
)  # fmt: skip


def telling(value: str) -> set[str]:
    """Every eight characters in a row of it that are not lower-case words alone."""
    grams = {value[at : at + GRAM] for at in range(len(value) - GRAM + 1)}
    return {gram for gram in grams if not re.fullmatch(r"[a-z/._ -]*", gram)}


@given(value=VALUES, text=st.sampled_from(TEXTS), kind=st.sampled_from(CredentialKind), parts=st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_fact_holds_eight_characters_of_a_value(value: str, text: str, kind: CredentialKind, parts: bool) -> None:
    data = text.format(v=value).encode()
    start = data.rfind(value.encode())
    hit = Hit(
        rule="generic-assignment", title="Value", kind=kind, value=value.encode(), start=start,
        end=start + len(value), line=1, confidence=90, variable=f"DB_{value}",
        parts={"user": value, "host": f"h-{value}", "database": value} if parts else {}, attributes={"class": value},
    )  # fmt: skip
    found = find(hit, Blob(path=f"srv/{value}/x", data=data), fingerprint)
    spot = replace(SPOT, place=Place(system="host:0123", path=found.path, line=1))
    shown = repr(list(facts_of(found, spot, now=NOW))) + repr(found)
    without_fingerprints = re.sub(r"hmac:[0-9a-f:a-z]*[0-9a-f]{64}|sha256:[0-9a-f]{64}|[0-9a-f]{64}", "", shown)
    assert not [gram for gram in telling(value) if gram in without_fingerprints]


@given(value=VALUES, before=st.text(max_size=20), after=st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_a_cleaned_text_shows_no_part(value: str, before: str, after: str) -> None:
    shown = Guard([value.encode()]).clean(f"{before}{value}{after}", 500)
    assert not [gram for gram in telling(value) if gram in shown]


@given(data=st.binary(max_size=400), cut=st.tuples(st.integers(0, 400), st.integers(0, 400)), rule=st.sampled_from(
    ["aws-secret-key", "azure", "private-key", "docker-auth", "twilio", "wireguard", "x"]))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_bytes_end_a_binding(data: bytes, cut: tuple[int, int], rule: str) -> None:
    start, end = sorted(min(each, len(data)) for each in cut)
    hit = Hit(
        rule=rule,
        title="x",
        kind=CredentialKind.SECRET,
        value=data[start:end],
        start=start,
        end=end,
        line=1,
        confidence=50,
    )
    bind(hit, Blob(path=".pgpass", data=data))
    ignore_at(data, start, end)


_STARTS = ("glpat-", "pypi-Ag", "ops_eyJ", "sntrys_eyJ", "glc_", "eyJrIjoi", "AGE-SECRET-KEY-1", "SU", "bedrock-api-key-",
           "ABSK", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n",
           "PuTTY-User-Key-File-3: x\nPublic-Lines: 1\n", "\u00fe\u00ed\u00fe\u00ed", "0\u0082", "eyJhbGciOiJub25lIn0.")  # fmt: skip


@given(
    start=st.sampled_from(_STARTS),
    rest=st.binary(max_size=300) | st.text(st.sampled_from("abcXYZ019+/=._-\n"), max_size=300).map(str.encode),
)
@settings(max_examples=400, deadline=None)
def test_no_value_of_a_known_beginning_ends_a_binding(start: str, rest: bytes) -> None:
    value = start.encode("latin-1") + rest
    hit = Hit(
        rule="x", title="x", kind=CredentialKind.SECRET, value=value, start=0, end=len(value), line=1, confidence=50
    )
    bind(hit, Blob(path="x", data=value))
