"""Servers, policies and files that want more than to be read: what they say is bounded, and gets no secret."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remit.inventory.connectors.catalog import CATALOG, make_connector
from remit.inventory.connectors.files.formats import Malformed, parse_json
from remit.inventory.exports.csv_table import _cell
from remit.inventory.secrets.live import parse_endpoints
from remit.inventory.use.readers import Context, redis
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.docker.engine import image_configs
from remit.providers.forge import ForgeClient
from remit.providers.kubernetes.kubeconfig import read_kubeconfig
from remit.providers.openbao.inventory import rules_of
from remit.providers.terraform.hcl import _copied, disarmed

CANARY = "cAnArY-pw-7Q"


@pytest.mark.parametrize("connector", sorted(CATALOG))
@pytest.mark.parametrize(
    "source",
    [
        f"https://user:{CANARY}@host.test:1",
        f"/srv/https:/user:{CANARY}@host.test",
        f"postgresql://u@h/x?password={CANARY}",
        f"https://127.0.0.1:1/?token={CANARY}",
        f"host=h password={CANARY}",
    ],
)
def test_a_source_that_carries_a_password_is_refused_and_not_repeated(connector: str, source: str) -> None:
    with pytest.raises(Rejected) as caught:
        make_connector(connector, source, {}, "")
    assert CANARY not in f"{caught.value!r} {caught.value} {caught.value.next_step}"


@pytest.mark.parametrize("after", ["²", "9" * 5000, "-1", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_strange_wait_of_a_forge_is_a_minute(after: str) -> None:
    client = ForgeClient("https://forge.test", {}, patience=timedelta(minutes=1))
    assert client._limited(429, {"retry-after": after}, b"") == 60.0
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": after}
    assert client._limited(403, spent, b"") == 60.0


@pytest.mark.parametrize(
    "policy",
    ["/*" * 200_000, '"\\' * 400_000, 'path "\\' * 60_000, "capabilities=[" * 60_000],
    ids=["comments", "quotes", "paths", "capabilities"],
)
def test_a_policy_that_is_never_closed_gives_nothing_and_costs_little(policy: str) -> None:
    assert rules_of(policy) == {}


def test_a_policy_keeps_its_rules_beside_comments_and_quotes() -> None:
    text = '# path "no" {}\npath "a/*" { capabilities = ["read"] } /* path "no" { */ // x\npath "b#c" {policy="read"}\n'
    assert rules_of(text) == {"a/*": ("read",), "b#c": ("read", "list")}


def kubeconfig(path: Path, token_file: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "kind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://evil.test'}}]\n"
        f"users: [{{name: u, user: {{tokenFile: '{token_file}'}}}}]\n"
    )
    return path


def test_a_kubeconfig_gets_no_file_of_elsewhere_sent_to_its_server(tmp_path: Path) -> None:
    secret = tmp_path / "vault-token"
    secret.write_text(CANARY)
    inside = tmp_path / "r" / "link"
    written = kubeconfig(tmp_path / "r" / "config", secret)
    with pytest.raises(Misconfigured, match="tokenFile"):
        read_kubeconfig(written)
    inside.symlink_to(secret)
    with pytest.raises(Misconfigured, match="tokenFile"):
        read_kubeconfig(kubeconfig(written, Path("link")))


def test_a_token_beside_the_kubeconfig_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert read_kubeconfig(kubeconfig(tmp_path / "config", Path("token"))).token == "abc"


@pytest.mark.parametrize("url", ["https://[", "https://h:99999999", "https://h:x", "https://"])
def test_an_endpoint_that_is_no_url_is_told(url: str) -> None:
    with pytest.raises(Rejected):
        parse_endpoints([f"github={url}"])


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", "\n=1", "\uff1d1"])
def test_no_cell_is_a_formula(name: str) -> None:
    assert _cell(name).startswith("'")


def test_no_cell_speaks_to_a_terminal() -> None:
    cell = _cell("a\x1b]0;x\x07b\rc\x9b\u202ed")
    assert cell.isprintable()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('a = file("x")', 'a = unread("x")'),
        ('a = file /* ( */ // x\n ("x")', 'a = unread /* ( */ // x\n ("x")'),
        ('file = "x"\nfilename = 1', 'file = "x"\nfilename = 1'),
        ("a = file" + "/**/" * 9 + '("x")', "a = unread" + "/**/" * 9 + '("x")'),
        ("a = file/*" + "x" * 999 + '*/("x")', "a = unread/*" + "x" * 999 + '*/("x")'),
    ],
)
def test_no_comment_hides_a_call_that_reads_a_file(text: str, left: str) -> None:
    assert disarmed("main.tf", text) == left


@pytest.mark.parametrize("part", ["/**/", "#file\n", "file/*", "file#"])
def test_comments_cost_no_more_than_they_are_long(part: str) -> None:
    assert len(disarmed("main.tf", "file" + part * 20_000)) >= 60_000


def test_a_module_that_is_a_link_out_of_the_tree_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret.tf").write_text(f'locals {{ x = "{CANARY}" }}')
    root = tmp_path / "in"
    root.mkdir()
    (root / "m").symlink_to(tmp_path / "out")
    (root / "main.tf").write_text('module "m" { source = "./m" }\n')
    copied = _copied(root, root, tmp_path / "copy")
    assert [each.name for each in copied.rglob("*.tf")] == ["main.tf"]


def archive(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for called, data in members.items():
            info = tarfile.TarInfo(called)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("listed", [b"[7]", b"{}", b'{"a": 1}', b'[{"Config": "' + b"a" * 64 + b'", "RepoTags": 7}]'])
def test_an_archive_of_a_strange_shape_ends_nothing(tmp_path: Path, listed: bytes) -> None:
    made = archive(tmp_path / "i.tar", {"manifest.json": listed, "a" * 64: b'{"config": {}}'})
    assert len(list(image_configs(made))) <= 1


def test_an_archive_is_plain_or_gzip(tmp_path: Path) -> None:
    members = {"manifest.json": b'[{"Config": "' + b"a" * 64 + b'"}]', "a" * 64: b"{}"}
    assert [len(list(image_configs(archive(tmp_path / f"i{each}", members, f"w:{each}")))) for each in ("", "gz")] == [
        1,
        1,
    ]
    with pytest.raises(Rejected):
        list(image_configs(archive(tmp_path / "i.tar.xz", members, "w:xz")))


def test_an_archive_that_says_it_is_endless_is_none(tmp_path: Path) -> None:
    info = tarfile.TarInfo("layer")
    info.size = 1 << 45
    (tmp_path / "i.tar").write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(Rejected):
        list(image_configs(tmp_path / "i.tar"))


@pytest.mark.parametrize("part", ["/*", '"\\', '\\"', ",", "//"])
def test_json_that_is_never_closed_costs_no_more_than_it_is_long(part: str) -> None:
    with pytest.raises(Malformed):
        parse_json(("{" + part * 200_000).encode())


def test_comments_and_commas_are_still_taken_out_of_json() -> None:
    assert parse_json(b'{"a": "//\\"/*", /* x */ "b": [1,], // y\n}').value == {"a": '//"/*', "b": ["1"]}


def test_a_line_of_redis_with_no_field_costs_no_more_than_it_is_long() -> None:
    context = Context(instance="i", environment="", fallback=datetime(2026, 11, 23, tzinfo=UTC))
    assert list(redis.read(b"a" * 1_000_000, context)) == []
