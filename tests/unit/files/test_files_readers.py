"""What each reader understands of the files of the programs it knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remit.inventory.connectors.files.record import Repository, Role
from remit.inventory.connectors.files.testing import (
    HOST,
    credentials,
    edges,
    fingerprint,
    identities,
    of,
    read,
    rules,
    secret,
    skips,
)
from remit.inventory.model import FindingFact, IdentityKind, ResourceFact, Severity
from remit.kernel.ids import credential_name, name

APP = Repository(root="/srv/app", git_dir="/srv/app/.git", forge="github.com", slug="acme/app")
CI = "/srv/app/.github/workflows/ci.yml"
PIPELINE = name("github", "github.com", "workflow", "acme/app/.github/workflows/ci.yml")


def test_a_database_url_names_the_role_that_it_opens() -> None:
    value = secret()
    facts = read("dotenv", ".env", f"DATABASE_URL=postgres://svc:{value}@DB.acme.com/orders\n")
    role = name("postgres", "db.acme.com:5432", "role", "svc")
    (found,) = credentials(facts)
    assert (found.fingerprint, found.identity, found.exposed) == (fingerprint(value.encode()), role, True)
    (shown,) = [fact for fact in identities(facts) if fact.name == role]
    assert dict(shown.attributes) == {"host": "db.acme.com", "port": "5432", "user": "svc", "database": "orders"}
    assert [edge.target for edge in edges(facts, "can-reach")] == [
        name("postgres", "db.acme.com:5432", "database", "orders")
    ]


def test_a_password_is_tied_to_the_settings_beside_it() -> None:
    facts = read("dotenv", ".env", f"PGHOST=db.acme.com\nPGUSER=svc\nPGPASSWORD={secret()}\n")
    assert credentials(facts)[0].identity == name("postgres", "db.acme.com:5432", "role", "svc")


def test_a_reference_to_a_manager_is_no_finding() -> None:
    facts = read(
        "dotenv",
        ".env",
        "API_TOKEN=${API_TOKEN}\nPASSWORD=vault:kv/x#y\nSECRET_KEY=changeme\nDATABASE_URL=postgres://u:${P}@h/d\n",
    )
    assert (credentials(facts), rules(facts)) == ([], set())


def test_the_same_value_in_two_files_is_one_credential() -> None:
    value = secret()
    one, two = (credentials(read("dotenv", path, f"API_TOKEN={value}\n")) for path in ("/a/.env", "/b/.env"))
    assert one[0].fingerprint == two[0].fingerprint


def test_a_path_of_tests_lowers_a_finding() -> None:
    live, test = (
        of(FindingFact, read("dotenv", ".env", f"STRIPE_KEY=sk_live_{secret(24)}\n", role=role))
        for role in (Role.LIVE, Role.TEST)
    )
    assert (live[0].severity, test[0].severity) == (Severity.HIGH, Severity.LOW)


def test_a_secret_that_everyone_reads_is_a_finding_once_for_each_file() -> None:
    facts = read("dotenv", ".env", f"A_TOKEN={secret()}\nB_TOKEN={secret()}\n", open_to_all=True)
    assert [fact.rule for fact in of(FindingFact, facts)].count("files.world-readable-secret") == 1


def test_an_aws_profile_has_an_account_and_a_role_to_assume() -> None:
    text = f"[a]\naws_access_key_id=AKIAQNZGKIQY56JQ7WML\naws_secret_access_key={secret(40)}\n[profile b]\nrole_arn=arn:aws:iam::123456789012:role/team/x\n"
    facts = read("aws-cli", "/home/jo/.aws/credentials", text, account="jo")
    assert credentials(facts)[0].attributes["account"] == "029608264753"
    (assume,) = edges(facts, "assume")
    assert (assume.source, assume.target) == (
        name("host", HOST, "unix-account", "jo"),
        name("aws", "123456789012", "role", "team/x"),
    )
    assert "files.static-cloud-key" in rules(facts)


def test_the_documented_example_key_of_aws_is_none() -> None:
    assert credentials(read("aws-cli", "credentials", "[a]\naws_access_key_id=AKIAIOSFODNN7EXAMPLE\n")) == []


def test_docker_logins_name_the_registry_and_its_user() -> None:
    facts = read(
        "docker-config", "config.json", json.dumps({"auths": {"https://ghcr.io/v1/": {"auth": "Ym90OmZvb2JhcjEyMw=="}}})
    )
    assert credentials(facts)[0].identity == name("docker", "ghcr.io", "user", "bot")


def test_a_credential_helper_leaves_nothing_to_find() -> None:
    assert read("docker-config", "config.json", json.dumps({"auths": {"ghcr.io": {}}, "credsStore": "pass"})) == ()


def test_an_mcp_agent_may_use_what_its_servers_hold() -> None:
    value = secret()
    config = {
        "mcpServers": {"db": {"command": "npx", "args": ["-y", "@x/pg", f"postgres://svc:{value}@db.acme.com/orders"]}}
    }
    facts = read("mcp", "/home/jo/.cursor/mcp.json", json.dumps(config), account="jo")
    agent = name("host", HOST, "agent", "jo/Cursor")
    server = name("mcp", HOST, "server", "/home/jo/.cursor/mcp.json#db")
    assert [(edge.source, edge.target) for edge in edges(facts, "assume")] == [(agent, server)]
    assert server in {
        edge.source for edge in edges(facts, "holds") if edge.target == credential_name(fingerprint(value.encode()))
    }
    assert credentials(facts)[0].identity == name("postgres", "db.acme.com:5432", "role", "svc")
    assert rules(facts) == {"files.secret-in-config", "files.unpinned-tool"}


def test_a_remote_mcp_server_is_a_vendor_and_its_header_a_credential() -> None:
    value = secret()
    config = {
        "servers": {"crm": {"url": "https://mcp.vendor.com/sse", "headers": {"Authorization": f"Bearer {value}"}}}
    }
    facts = read("mcp", "/srv/app/.vscode/mcp.json", json.dumps(config), repository=APP)
    assert [fact.fingerprint for fact in credentials(facts)] == [fingerprint(value.encode())]
    assert {fact.kind for fact in identities(facts)} >= {IdentityKind.AI_AGENT, IdentityKind.VENDOR}


def test_an_editor_configuration_without_servers_is_no_agent() -> None:
    assert read("mcp", "/srv/app/.vscode/settings.json", '{"editor.tabSize": 2}') == ()


def test_a_workflow_assumes_the_role_that_it_names() -> None:
    text = """on: push
permissions: {id-token: write}
jobs:
  a:
    environment: prod
    steps:
      - uses: aws-actions/configure-aws-credentials@0123456789012345678901234567890123456789
        with: {role-to-assume: 'arn:aws:iam::123456789012:role/deploy'}
"""
    (edge,) = edges(read("github-actions", CI, text, repository=APP), "assume")
    assert (edge.source, edge.target) == (PIPELINE, name("aws", "123456789012", "role", "deploy"))
    assert edge.conditions == ("environment prod",)


def test_a_workflow_without_the_right_to_prove_itself_says_so() -> None:
    text = "on: push\npermissions: {contents: read}\njobs: {a: {steps: [{uses: aws-actions/configure-aws-credentials@v4, with: {role-to-assume: 'arn:aws:iam::123456789012:role/x'}}]}}\n"
    (edge,) = edges(read("github-actions", CI, text, repository=APP), "assume")
    assert edge.conditions


def test_the_secrets_of_a_workflow_are_known_by_name_only() -> None:
    text = 'on: push\njobs:\n  a:\n    env: {T: "${{ secrets.NPM_TOKEN }}", G: "${{ secrets.GITHUB_TOKEN }}", U: "${{ secrets[\'X_Y\'] }}"}\n'
    found = credentials(read("github-actions", CI, text, repository=APP))
    assert {(fact.attributes["setting"], fact.manager, fact.exposed) for fact in found} == {
        ("NPM_TOKEN", "github-actions", False),
        ("X_Y", "github-actions", False),
    }


@pytest.mark.parametrize(
    ("step", "on", "rule"),
    [
        ("{uses: evil/thing@v1}", "push", "files.unpinned-action"),
        ("{run: 'echo ${{ github.event.pull_request.title }}'}", "push", "files.script-injection"),
        (
            "{uses: actions/checkout@v4, with: {ref: '${{ github.event.pull_request.head.sha }}'}}",
            "pull_request_target",
            "files.pull-request-target",
        ),
        ("{uses: azure/login@v2, with: {creds: '${{ secrets.AZ }}'}}", "push", "files.static-cloud-key-in-pipeline"),
    ],
)
def test_what_is_wrong_in_a_workflow(step: str, on: str, rule: str) -> None:
    assert rule in rules(
        read("github-actions", CI, f"on: {on}\npermissions: {{}}\njobs: {{a: {{steps: [{step}]}}}}\n", repository=APP)
    )


@pytest.mark.parametrize("uses", ["actions/checkout@v4", "./local", "acme/own@main", "evil/thing@" + "a" * 40])
def test_what_is_pinned_or_ones_own_is_no_finding(uses: str) -> None:
    facts = read(
        "github-actions",
        CI,
        f"on: push\npermissions: {{}}\njobs: {{a: {{steps: [{{uses: {uses}}}]}}}}\n",
        repository=APP,
    )
    assert rules(facts) == set()


def test_foreign_code_runs_as_the_pipeline() -> None:
    facts = read("github-actions", CI, "on: push\njobs: {a: {steps: [{uses: evil/thing@v1}]}}\n", repository=APP)
    (edge,) = edges(facts, "runs-as")
    assert (edge.source, edge.target) == (name("github", "github.com", "action", "evil/thing"), PIPELINE)


def test_a_gitlab_pipeline_proves_itself_and_takes_project_variables() -> None:
    text = "job:\n  id_tokens: {T: {aud: https://vault.acme.com}}\n  image: alpine\n  script: ['curl -H $DEPLOY_TOKEN', 'x $CI_JOB_TOKEN']\n"
    facts = read("gitlab-ci", "/srv/app/.gitlab-ci.yml", text)
    assert [fact.attributes["setting"] for fact in credentials(facts)] == ["DEPLOY_TOKEN"]
    assert [fact.kind for fact in of(ResourceFact, facts)] == ["audience"]
    assert "files.unpinned-image" in rules(facts)


def test_a_kubeconfig_names_the_user_of_its_token() -> None:
    text = f"kind: Config\nclusters: [{{name: c, cluster: {{server: 'https://k.acme.com:6443', insecure-skip-tls-verify: true}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{username: admin, password: {secret()}}}}}]\n"
    facts = read("kubeconfig", "config", text)
    assert credentials(facts)[0].identity == name("kubernetes", "k.acme.com:6443", "user", "admin")
    assert "files.unverified-server" in rules(facts)


def test_a_unit_runs_as_its_user_and_holds_its_credentials() -> None:
    facts = read(
        "systemd",
        "/etc/systemd/system/pay.service",
        "[Service]\nExecStart=/x\nUser=pay\nLoadCredential=db:/etc/creds/db\n",
    )
    (runs,) = edges(facts, "runs-as")
    assert (runs.source, runs.target) == (
        name("host", HOST, "unit", "pay.service"),
        name("host", HOST, "unix-account", "pay"),
    )
    assert [fact.manager for fact in credentials(facts)] == ["systemd"]


def test_a_container_with_the_engine_socket_is_root() -> None:
    facts = read("compose", "compose.yml", "services: {a: {image: x, volumes: ['/var/run/docker.sock:/s']}}\n")
    assert [edge.target for edge in edges(facts, "assume")] == [name("host", HOST, "unix-account", "root")]


def test_a_putty_key_shows_its_public_half() -> None:
    public = "AAAAC3NzaC1lZDI1NTE5AAAAIHbhFh5u1Vcq5Z0yJ4gC3M1h8p0mJb4y5c7oM2p0q8Qm"
    text = f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: aes256-cbc\nComment: jo\nPublic-Lines: 1\n{public}\nPrivate-Lines: 1\nAAAA\n"
    (found,) = credentials(read("ssh-private-key", "a.ppk", text))
    assert (found.attributes["encrypted"], found.attributes["algorithm"], found.exposed) == (True, "ed25519", False)


def test_a_file_that_is_cut_off_is_malformed() -> None:
    assert skips(read("x509", "a.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n")) == {"malformed"}


def test_a_bundle_of_authorities_is_one_resource() -> None:
    certifi = pytest.importorskip("certifi")
    facts = read("x509", "cacert.pem", Path(certifi.where()).read_bytes())
    assert [fact.kind for fact in of(ResourceFact, facts)] == ["trust-bundle"]
    assert (credentials(facts), identities(facts)) == ([], [])
