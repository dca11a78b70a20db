"""No fact holds a secret, and no file ends a run: planted values in every format, and hostile bytes for every reader."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.inventory.connectors.files import FileRead
from remit.inventory.connectors.files.readers import READERS
from remit.inventory.connectors.files.record import Repository
from remit.inventory.connectors.files.testing import HOST, credentials, fingerprint, of, read
from remit.inventory.model import Skipped
from remit.inventory.owners import parse_codeowners

VALUES = st.text(
    st.sampled_from("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_"), min_size=20, max_size=60
).filter(
    lambda value: any(mark.isdigit() for mark in value) and any(mark.isupper() for mark in value) and value[0].isalnum()
)
REPOSITORY = Repository(
    root="/srv/app",
    git_dir="/srv/app/.git",
    forge="github.com",
    slug="acme/app",
    owner_rules=parse_codeowners("* @acme/all"),
)


def only_known_failures(facts: Iterable[object]) -> bool:
    """A reader says `Malformed` of its own accord; any other failure is a bug that only the supervisor caught."""
    return all(
        fact.detail[:1].islower() or fact.detail[:1].isdigit() or fact.detail in ("Malformed", "")
        for fact in of(Skipped, facts)
    )


def basic(user: str, value: str) -> str:
    return base64.b64encode(f"{user}:{value}".encode()).decode()


FORMATS: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "dotenv": ("dotenv", ".env", lambda v: f"# owner: x\nAPI_TOKEN={v}\nOTHER='{v}'\nNAME=x\n"),
    "dotenv url": ("dotenv", ".env", lambda v: f"DATABASE_URL=postgres://svc:{v}@db/orders\n"),
    "dotenv user is the token": ("dotenv", ".env", lambda v: f"PIP_URL=https://{v}@pypi.acme.com/simple\nTOKEN={v}\n"),
    "dotenv pair": ("dotenv", ".env", lambda v: f"DB_HOST=db\nDB_PORT=5432\nDB_USER=svc\nDB_PASSWORD={v}\n"),
    "dotenv user repeats it": ("dotenv", ".env", lambda v: f"PGUSER={v}\nPGHOST=db\nPGPASSWORD={v}\n"),
    "aws": ("aws-cli", "credentials", lambda v: f"[{v[:4]}]\naws_access_key_id=AKIAQNZGKIQY56JQ7WML\naws_secret_access_key={v}\naws_session_token={v}\n"),
    "google user": ("google-cloud", "adc.json", lambda v: json.dumps({"type": "authorized_user", "client_id": "x", "refresh_token": v})),
    "azure": ("azure-cli", "x.json", lambda v: json.dumps([{"client_id": "a", "tenant": "b", "client_secret": v}])),
    "cli tokens": ("cli-tokens", "config.yaml", lambda v: f"context: x\naccess-token: {v}\n"),
    "plain token": ("token-file", ".vault-token", lambda v: v),
    "docker": ("docker-config", "config.json", lambda v: json.dumps({"auths": {"ghcr.io": {"auth": basic("bot", v)}}})),
    "npm": ("npm", ".npmrc", lambda v: f"//registry.npmjs.org/:_authToken={v}\n//x.y/:_password={base64.b64encode(v.encode()).decode()}\n"),
    "pypi": ("pypi", ".pypirc", lambda v: f"[pypi]\nusername = __token__\npassword = {v}\n"),
    "pip": ("urls", "pip.conf", lambda v: f"[global]\nindex-url = https://bot:{v}@pypi.acme.com/simple\n"),
    "git credentials": ("urls", ".git-credentials", lambda v: f"https://bob:{v}@github.com\nhttps://{v}@gitlab.com\n"),
    "git config": ("git-config", "/srv/app/.git/config", lambda v: f'[remote "origin"]\n\turl = https://x:{v}@github.com/a/b\n[http]\n\textraheader = AUTHORIZATION: basic {basic("x", v)}\n'),
    "netrc": ("netrc", ".netrc", lambda v: f"machine api.x.com\n login bot\n password {v}\ndefault login a password {v}\n"),
    "pgpass": ("pgpass", ".pgpass", lambda v: f"db:5432:orders:svc:{v}\n*:*:*:*:{v}\n"),
    "pg service": ("pg-service", ".pg_service.conf", lambda v: f"[x]\nhost=db\nuser=svc\npassword={v}\n"),
    "mysql": ("mysql", ".my.cnf", lambda v: f"[client]\nuser=svc\npassword='{v}'\n"),
    "terraform": ("terraform-cli", ".terraformrc", lambda v: f'credentials "app.terraform.io" {{\n token = "{v}"\n}}\n'),
    "gh": ("github-cli", "hosts.yml", lambda v: f"github.com:\n  user: bob\n  oauth_token: {v}\n"),
    "kubeconfig": ("kubeconfig", "config", lambda v: f"kind: Config\nclusters: []\nusers:\n- name: a\n  user: {{token: {v}}}\n- name: b\n  user: {{username: u, password: {v}}}\n"),
    "mcp": ("mcp", ".mcp.json", lambda v: json.dumps({"mcpServers": {
        "a": {"command": "npx", "args": ["-y", "srv", "--token", v, f"--api-key={v}", f"API_KEY={v}", f"postgres://u:{v}@h/d"], "env": {"A_TOKEN": v}},
        "b": {"url": f"https://x.y/{v}/sse?token={v}", "headers": {"Authorization": f"Bearer {v}", "X-Key": v}}}})),
    "workflow": ("github-actions", "/srv/app/.github/workflows/a.yml", lambda v: f"name: x\non: push\nenv: {{API_TOKEN: {v}}}\njobs:\n  a:\n    steps:\n    - uses: a/b@v1\n      with: {{password: {v}}}\n      env: {{URL: 'https://u:{v}@h/x'}}\n"),
    "gitlab": ("gitlab-ci", ".gitlab-ci.yml", lambda v: f"variables: {{DEPLOY_TOKEN: {v}}}\njob:\n  variables: {{X_PASSWORD: {v}}}\n  script: [echo]\n"),
    "compose": ("compose", "compose.yml", lambda v: f"services:\n  a:\n    image: x\n    environment: [DB_PASSWORD={v}]\n    command: run --token {v}\n"),
    "systemd": ("systemd", "/etc/systemd/system/a.service", lambda v: f"[Service]\nExecStart=/x\nEnvironment=API_TOKEN={v}\nSetCredential=db:{v}\n"),
    "settings": ("settings", "appsettings.json", lambda v: json.dumps({"ConnectionStrings": {"Db": f"Server=h,1;User Id=u;Password={v}"}, "Smtp": {"Password": v}})),
    "toml": ("settings", "secrets.toml", lambda v: f'[a]\npassword = "{v}"\n'),
    "properties": ("settings", "application.properties", lambda v: f"spring.datasource.password={v}\n"),
}  # fmt: skip


@pytest.mark.parametrize("format_", FORMATS)
@given(value=VALUES)
@settings(max_examples=25, deadline=None)
def test_no_fact_holds_a_planted_value(format_: str, value: str) -> None:
    reader, name, write = FORMATS[format_]
    shown = repr(read(reader, name, write(value), repository=REPOSITORY))
    encoded = base64.b64encode(value.encode()).decode()[: len(value)]
    assert value not in shown
    assert encoded not in shown
    assert basic("bot", value) not in shown


@pytest.mark.parametrize("format_", FORMATS)
def test_every_planted_value_is_found(format_: str) -> None:
    reader, name, write = FORMATS[format_]
    value = "Zq4kV9sT2mXw7Bn3Rj5Lp8Yd1Hf6Gc"
    found = {fact.fingerprint for fact in credentials(read(reader, name, write(value)))}
    kept = {str(fact.attributes.get("secret_fingerprint")) for fact in credentials(read(reader, name, write(value)))}
    assert fingerprint(value.encode()) in found | kept


def test_a_file_does_not_show_its_bytes() -> None:
    assert "hunter22" not in repr(FileRead(path="/x", reader="dotenv", data=b"hunter22", host=HOST, account="a"))


@pytest.mark.parametrize("reader", [reader.id for reader in READERS])
@given(
    data=st.one_of(
        st.binary(max_size=300), st.text(st.sampled_from("{}[]\":,=-\n\t #ab@/'<>|&*!%"), max_size=300).map(str.encode)
    )
)
@settings(max_examples=40, deadline=None)
def test_hostile_bytes_end_no_run(reader: str, data: bytes) -> None:
    for name in ("x.yml", "x.json", "x.toml", "x.pem", "x.conf", "id_rsa"):
        assert only_known_failures(read(reader, name, data))


@pytest.mark.parametrize("format_", FORMATS)
@given(cut=st.floats(0, 1), noise=st.binary(max_size=8))
@settings(max_examples=15, deadline=None)
def test_a_half_written_file_ends_no_run(format_: str, cut: float, noise: bytes) -> None:
    reader, name, write = FORMATS[format_]
    whole = write("Zq4kV9sT2mXw7Bn3Rj5Lp8Yd1Hf6Gc").encode()
    facts = read(reader, name, whole[: int(len(whole) * cut)] + noise)
    assert only_known_failures(facts)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(
                st.sampled_from(
                    [
                        "mcpServers",
                        "servers",
                        "a",
                        "env",
                        "args",
                        "command",
                        "url",
                        "jobs",
                        "steps",
                        "with",
                        "uses",
                        "on",
                        "permissions",
                        "users",
                        "user",
                        "clusters",
                        "contexts",
                        "token",
                        "auths",
                        "auth",
                        "services",
                        "environment",
                        "variables",
                        "id_tokens",
                        "image",
                        "type",
                        "headers",
                        "projects",
                        "exec",
                        "secrets",
                        "type",
                    ]
                ),
                inner,
                max_size=5,
            ),
        ),
        max_leaves=25,
    )
)
@settings(max_examples=100, deadline=None)  # fmt: skip
def test_documents_of_the_wrong_shape_end_no_run(value: object) -> None:
    data = json.dumps(value)
    for reader in (
        "mcp",
        "github-actions",
        "gitlab-ci",
        "kubeconfig",
        "docker-config",
        "compose",
        "google-cloud",
        "azure-cli",
        "settings",
    ):
        assert only_known_failures(read(reader, "x.json" if reader != "settings" else "appsettings.json", data))
