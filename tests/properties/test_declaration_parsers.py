"""Readers of declarations never raise but in our own words, whatever lies in the file, and give facts in bounds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.inventory.connectors import docker, terraform
from remit.inventory.connectors.files.testing import HOST
from remit.inventory.connectors.import_file import make as make_import
from remit.inventory.connectors.terraform.resources import READERS
from remit.inventory.connectors.testing import facts_of
from remit.kernel.errors import RemitError

KEYS = st.sampled_from([
    "version", "terraform_version", "lineage", "resources", "outputs", "instances", "attributes", "sensitive_attributes",
    "type", "name", "mode", "values", "planned_values", "resource_changes", "root_module", "child_modules", "address", "policy",
    "assume_role_policy", "Statement", "Principal", "user", "id", "arn", "secret", "password", "backend", "config",
    "services", "environment", "image", "volumes", "privileged", "cap_add", "env_file", "secrets", "labels", "command",
    "identities", "credentials", "entitlements", "owners", "kind", "system", "instance", "identity", "title", "aliases",
])  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=20),
    st.sampled_from([*sorted(READERS), "managed", "s3", "aws", "a:b@c", "${x}", "\x00", "{}", '{"Statement": {"Principal": 3}}', 4]),
)  # fmt: skip
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=40
)
STATES = st.builds(
    lambda kind, values, rest: json.dumps({
        **rest, "version": 4, "terraform_version": "1.9.0", "lineage": "l",
        "resources": [{"mode": "managed", "type": kind, "name": "n", "instances": [{"attributes": values}]}],
    }),
    st.sampled_from(sorted(READERS)), TREES, st.dictionaries(KEYS, TREES, max_size=4),
).map(str.encode)  # fmt: skip
JSON = st.dictionaries(KEYS, TREES, max_size=6).map(json.dumps).map(str.encode)
WORDS = st.lists(
    st.sampled_from([
        "ENV ", "ARG ", "USER ", "FROM ", "LABEL ", "A=b", "root", "\\\n", "\n", '"', "'", "=", "$X", "${", "#", "\x00",
        "PASSWORD=", "services:\n", "  web:\n", "    image: x\n", "    environment:\n", "      - A=b\n", "&a ", "*a", "<<: *a\n",
        "- ", "!!python/object ", "? ", "|\n", "identity,kind,name\n", "a,b,c\n", "resource ", "{", "}", "variable ", "default",
    ]),
    max_size=50,
).map("".join).map(str.encode)  # fmt: skip
ANYTHING = st.one_of(JSON, WORDS, st.binary(max_size=300))
READS: dict[str, tuple[tuple[str, ...], Callable[[Path, str], Any], st.SearchStrategy[bytes]]] = {
    "terraform": (
        ("terraform.tfstate", "plan.json", "main.tf"),
        lambda root, _: terraform.TerraformConnector(root, instance=HOST),
        st.one_of(STATES, ANYTHING),
    ),
    "docker": (
        ("Dockerfile", "compose.yaml", "docker-compose.yml"),
        lambda root, _: docker.make(str(root), {}, ""),
        ANYTHING,
    ),
    "import": (
        ("rows.json", "rows.jsonl", "rows.yaml", "rows.csv"),
        lambda root, called: make_import(
            str(root / called), {"kind": "identity"} if called.endswith("csv") else {}, ""
        ),
        ANYTHING,
    ),
}


@pytest.mark.parametrize("called", READS)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_what_a_file_holds_is_read_or_refused_in_our_words(called: str, data: st.DataObject) -> None:
    files, make, contents = READS[called]
    file, content = data.draw(st.sampled_from(files)), data.draw(contents)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / file).write_bytes(content)
        try:
            facts = facts_of(make(root, file))
        except RemitError as error:
            assert error.code.startswith("inventory.")
            return
    assert len(facts) < 5_000
    assert all(str(getattr(each, "name", "urn:")).startswith("urn:") for each in facts)
