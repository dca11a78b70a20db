"""Which file goes to which reader, and what a path says of its purpose."""

from __future__ import annotations

import pytest

from remit.inventory.connectors.files.choose import Chooser, role_of
from remit.inventory.connectors.files.readers import READERS
from remit.inventory.connectors.files.record import Role

CHOOSER = Chooser(READERS)


@pytest.mark.parametrize(
    ("path", "reader"),
    [
        ("/home/a/.ssh/id_ed25519", "ssh-private-key"), ("/home/a/.ssh/work", "ssh-private-key"), ("/home/a/.ssh/x.pub", "ssh-public-key"),
        ("/home/a/.ssh/authorized_keys", "ssh-authorized-keys"), ("/etc/ssh/ssh_host_rsa_key", "ssh-private-key"), ("/s/TLS.PEM", "x509"),
        ("/s/a.p12", "pkcs12"), ("/home/a/.kube/config", "kubeconfig"), ("/etc/kubernetes/admin.conf", "kubeconfig"),
        ("/home/a/.aws/credentials", "aws-cli"), ("/s/my-project-0123456789ab.json", "google-cloud"), ("/s/.env.production", "dotenv"),
        ("/home/a/.docker/config.json", "docker-config"), ("/home/a/.npmrc", "npm"), ("/home/a/.pypirc", "pypi"), ("/s/.netrc", "netrc"),
        ("/home/a/.git-credentials", "urls"), ("/r/.git/config", "git-config"), ("/home/a/.pgpass", "pgpass"), ("/home/a/.my.cnf", "mysql"),
        ("/home/a/.terraformrc", "terraform-cli"), ("/home/a/.config/gh/hosts.yml", "github-cli"), ("/r/.mcp.json", "mcp"),
        ("/r/.cursor/mcp.json", "mcp"), ("/r/.github/workflows/application.yml", "github-actions"), ("/r/.gitlab-ci.yml", "gitlab-ci"),
        ("/r/docker-compose.prod.yml", "compose"), ("/etc/systemd/system/x.service", "systemd"), ("/r/appsettings.json", "settings"),
    ],
)  # fmt: skip
def test_each_file_has_its_reader(path: str, reader: str) -> None:
    directory, _, name = path.rpartition("/")
    chosen = CHOOSER.choose(directory, name)
    assert chosen is not None and chosen.id == reader


@pytest.mark.parametrize(
    "path", ["/r/main.py", "/r/package.json", "/r/config", "/r/id_map.py", "/r/kubeconfig.py", "/r/README", "/r/x.yml"]
)
def test_most_files_have_none(path: str) -> None:
    directory, _, name = path.rpartition("/")
    assert CHOOSER.choose(directory, name) is None


def test_readers_have_distinct_ids() -> None:
    assert len({reader.id for reader in READERS}) == len(READERS)


@pytest.mark.parametrize(
    ("directory", "name", "role"),
    [
        ("/srv/app", ".env", Role.LIVE), ("/srv/app", ".env.example", Role.EXAMPLE), ("/srv/app/tests/data", "a.pem", Role.TEST),
        ("/srv/app/docs", "a.pem", Role.DOCUMENTATION), ("/srv/app/examples/x", "a.pem", Role.EXAMPLE), ("/srv/app/vendor/x", "a.pem", Role.VENDOR),
        ("/srv/v/lib/python3.11/site-packages/x", "a.pem", Role.VENDOR), ("/usr/share/doc/x", "a.pem", Role.VENDOR),
    ],
)  # fmt: skip
def test_a_path_tells_its_purpose(directory: str, name: str, role: Role) -> None:
    assert role_of(directory, name, "/srv") is role


def test_what_lies_above_the_root_says_nothing_of_tests() -> None:
    assert role_of("/ci/tests/run/app", ".env", "/ci/tests/run") is Role.LIVE
