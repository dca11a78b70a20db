"""A secret in an export of a chat or of tickets is found, and its place says who wrote it where."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.inventory.secrets.engine import make_engine
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources.expand import expand

URL = "mysql://shop:Vq8-Zw29-Lk4v-Xd81@db.shop.internal:3306/shop"
ENGINE = make_engine(pure=True)


def places(path: str, data: bytes) -> set[str]:
    """Where the planted URL is found."""
    return {
        blob.path
        for blob in expand(Blob(path=path, data=data))
        if isinstance(blob, Blob) and any(hit.rule == "url-password" for hit in ENGINE.scan(blob))
    }


def slack(*messages: dict[str, Any]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("users.json", json.dumps([{"id": "U1", "name": "alice"}]))
        archive.writestr("channels.json", json.dumps([{"id": "C1", "name": "ops"}]))
        archive.writestr("ops/2026-01-02.json", json.dumps(messages, indent=4))
    return made.getvalue()


def test_a_slack_export_names_the_channel_and_the_author() -> None:
    said = {"type": "message", "user": "U1", "ts": "1767312000.1", "text": f"use {URL}"}
    data = slack({**said, "text": "good morning"}, {**said, "user_profile": {"name": "alice"}})
    assert places("slack.zip", data) == {"slack.zip!ops/2026-01-02.json!@alice"}


def test_what_hangs_on_a_message_counts_as_said_by_its_author() -> None:
    said = {"type": "message", "user": "U1", "ts": "1", "text": "see", "attachments": [{"fallback": URL}]}
    assert places("slack.zip", slack(said)) == {"slack.zip!ops/2026-01-02.json!@U1"}


def test_a_discord_export_names_both() -> None:
    said = {"id": "9", "timestamp": "2026-01-02T00:00:00Z", "content": URL, "author": {"name": "bob"}}
    document = {"channel": {"id": "1", "name": "ops"}, "messages": [said]}
    assert places("discord.json", json.dumps(document).encode()) == {"discord.json!#ops @bob"}


def test_an_export_of_teams_names_both() -> None:
    said = {
        "createdDateTime": "2026-01-02T00:00:00Z", "from": {"user": {"displayName": "Zed"}},
        "channelIdentity": {"teamId": "t", "channelId": "19:ops"}, "body": {"contentType": "html", "content": URL},
    }  # fmt: skip
    assert places("teams.json", json.dumps({"value": [said]}).encode()) == {"teams.json!#19:ops @Zed"}


def test_tickets_name_the_issue_and_who_wrote_each_text() -> None:
    comment = {"author": {"emailAddress": "z@x.io"}, "created": "2026", "body": f"and {URL}"}
    fields = {
        "reporter": {"emailAddress": "a@x.io"}, "created": "2026", "description": f"it is {URL}",
        "comment": {"comments": [comment]},
    }  # fmt: skip
    data = json.dumps({"issues": [{"key": "OPS-7", "fields": fields}]}).encode()
    assert places("jira.json", data) == {"jira.json!OPS-7 @a@x.io", "jira.json!OPS-7 @z@x.io"}


def test_a_package_with_an_author_stays_the_file_that_it_is() -> None:
    data = json.dumps({"name": "p", "author": {"name": "bob"}, "description": "x", "db": URL}, indent=2).encode()
    assert places("package.json", data) == {"package.json"}


def test_what_nobody_wrote_is_not_lost() -> None:
    said = {"timestamp": "1", "content": "x", "author": {"name": "bob"}}
    assert places("d.json", json.dumps({"webhook": URL, "messages": [said]}).encode()) == {"d.json"}


def test_a_hostile_author_forges_no_member_of_an_archive() -> None:
    said = {"timestamp": "1", "content": URL, "author": {"name": "../../etc!passwd\n\x1b[31m"}}
    [place] = places("d.json", json.dumps([said]).encode())
    assert place.count("!") == 1 and "/" not in place and place.isprintable()


@pytest.mark.parametrize("path", ["home/.bash_history", "logs/app.log", "box.mbox", "mail.eml"])
def test_histories_logs_and_mail_keep_their_lines(path: str) -> None:
    head = b"From a@x.io Mon Jan  1 00:00:00 2026\nFrom: a@x.io\nMessage-ID: <1@x>\n\n" if "m" in path[-4:] else b""
    assert places(path, head + b"hello\n" + URL.encode() + b"\n") == {path}


def test_a_notebook_shows_its_cells() -> None:
    cell = {"cell_type": "code", "source": [f"engine = create_engine('{URL}')\n"], "outputs": []}
    assert places("n.ipynb", json.dumps({"cells": [cell], "nbformat": 4}).encode()) == {"n.ipynb"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["author", "from", "text", "body", "ts", "fields", "key", "channel"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_document_breaks_the_reader(document: object) -> None:
    data = b'[{"author": "x"},' + json.dumps(document).encode() + b"]"
    assert [each for each in expand(Blob(path="d.json", data=data)) if isinstance(each, Blob)]
