"""`remit scan` as a developer meets it: before a commit, in a pipeline, with secrets that are known already."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from installation import REMIT, environment, run_remit

VALUE = "Zq4kV9sT2mXw7Bn3Rj5L"
OTHER = "Hy7Lp3Wc9Xd2Kf8Vn6Tb"


def remit(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_remit(*words, env=known(here), cwd=here)


def known(here: Path) -> dict[str, str]:
    """The environment of a developer who has run it before: the compiled patterns are kept."""
    program = shlex.join(REMIT)
    (here.parent / "bin").mkdir(exist_ok=True)
    (here.parent / "bin/remit").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (here.parent / "bin/remit").chmod(0o755)
    path = f"{here.parent / 'bin'}:{os.environ['PATH']}"
    return environment(here.parent, XDG_CACHE_HOME=str(here.parent.parent / "cache"), PATH=path)


def git(here: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["git", "-c", "user.email=c@acme.com", "-c", "user.name=C", *words]
    return subprocess.run(command, cwd=here, check=check, capture_output=True, text=True, env=known(here), timeout=60)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "app.env").write_text(f"NAME=x\nDB_PASSWORD={VALUE}\n")
    return folder


def findings(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    listed = json.loads(done.stdout)["findings"]
    assert isinstance(listed, list)
    return listed


def test_a_secret_is_told_without_its_value_and_ends_with_one(here: Path) -> None:
    for format_ in ("table", "json", "yaml", "sarif"):
        done = remit(here, "scan", "--format", format_)
        assert done.returncode == 1, done.stderr
        assert "app.env" in done.stdout and VALUE not in done.stdout + done.stderr


def test_nothing_found_ends_with_zero(here: Path) -> None:
    (here / "app.env").write_text("DB_PASSWORD=${DB_PASSWORD}\n")
    assert remit(here, "scan").returncode == 0


def test_a_path_that_is_not_there_is_an_error(here: Path) -> None:
    assert "no `gone`" in remit(here, "scan", "gone").stderr


def test_sarif_names_the_region_relative_to_here(here: Path) -> None:
    report = json.loads(remit(here, "scan", "-o", "sarif").stdout)
    (result,) = report["runs"][0]["results"]
    where = result["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "app.env"
    assert where["region"] == {"startLine": 2, "startColumn": 13, "endColumn": 13 + len(VALUE)}
    assert result["partialFingerprints"]["remitSecret/v1"]


def test_sarif_fingerprints_do_not_move_with_the_lines_or_tell_the_value(here: Path) -> None:
    def printed() -> str:
        report = json.loads(remit(here, "scan", "-o", "sarif").stdout)
        return str(report["runs"][0]["results"][0]["partialFingerprints"])

    before = printed()
    (here / "app.env").write_text(f"NAME=x\n\n\nDB_PASSWORD={OTHER}\n")
    assert printed() == before


def test_a_baseline_passes_what_is_known_wherever_it_moves(here: Path) -> None:
    assert remit(here, "scan", "--write-baseline").returncode == 0
    text = (here / ".remit-baseline").read_text()
    assert VALUE not in text and remit(here, "scan").returncode == 0
    (here / "app.env").rename(here / "moved.env")
    assert remit(here, "scan").returncode == 0
    (here / "new.env").write_text(f"API_TOKEN={OTHER}\n")
    done = remit(here, "scan", "-o", "json")
    assert [each["path"] for each in findings(done)] == ["new.env"]


def test_a_fingerprint_that_nobody_keeps_joins_places_and_says_nothing_beyond_its_run(here: Path) -> None:
    (here / "again.env").write_text(f"API_TOKEN={VALUE}\nKEY_SECRET={OTHER}\n")

    def told() -> dict[str, list[str]]:
        places: dict[str, list[str]] = {}
        for each in findings(remit(here, "scan", "-o", "json")):
            places.setdefault(str(each["fingerprint"]), []).append(str(each["path"]))
        return places

    first, second = told(), told()
    assert sorted(map(sorted, first.values())) == [["again.env"], ["again.env", "app.env"]]
    assert not first.keys() & second.keys()
    assert all(each.startswith("run:") for each in first)
    remit(here, "scan", "--write-baseline")
    (here / "new.env").write_text("API_TOKEN=Jm8Qw2Zr6Yt4Ub9Np3Kx\n")
    assert all(each.startswith("kdf:") for each in told())


def test_a_baseline_is_sorted_and_written_anew_only_adds_lines(here: Path) -> None:
    remit(here, "scan", "--write-baseline")
    before = (here / ".remit-baseline").read_text().splitlines()
    (here / "new.env").write_text(f"API_TOKEN={OTHER}\n")
    remit(here, "scan", "--write-baseline")
    after = (here / ".remit-baseline").read_text().splitlines()
    assert set(before) < set(after) and after[2:] == sorted(after[2:])


def test_a_baseline_knows_what_is_known_by_a_public_name_too(here: Path) -> None:
    (here / "aws.env").write_text("AWS_ACCESS_KEY_ID=AKIA7XO7RMOXPGTRFCCS\n")
    assert remit(here, "scan", "--write-baseline").returncode == 0
    assert "\nsha256:" in (here / ".remit-baseline").read_text()
    done = remit(here, "scan")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_baseline_with_conflict_marks_is_refused(here: Path) -> None:
    (here / ".remit-baseline").write_text("# remit baseline 1 salt=" + "0" * 32 + "\n<<<<<<< HEAD\n")
    done = remit(here, "scan")
    assert "line 2" in done.stderr and done.returncode > 1


def ignored(here: Path, wish: str) -> list[dict[str, object]]:
    (here / "app.env").write_text(f"# remit:ignore {wish}\nDB_PASSWORD={VALUE}\n")
    return findings(remit(here, "scan", "-o", "json"))


def test_an_ignore_with_reason_and_end_is_granted(here: Path) -> None:
    until = (datetime.now(UTC) + timedelta(days=30)).date()
    assert ignored(here, f"until={until} reason=rotated next week") == []


def test_an_ignore_that_has_ended_is_told(here: Path) -> None:
    (found,) = ignored(here, "until=2020-01-01 reason=old")
    assert found["problem"] == "it ended 2020-01-01"


def test_history_shows_what_was_deleted_and_by_whom(here: Path) -> None:
    git(here, "init", "-q")
    git(here, "add", "-A")
    git(here, "commit", "-qm", "first")
    git(here, "rm", "-q", "app.env")
    git(here, "commit", "-qm", "second")
    assert remit(here, "scan").returncode == 0
    (found,) = findings(remit(here, "scan", "--history", "-o", "json"))
    assert str(found["path"]).startswith("app.env@") and found["author"] == "C <c@acme.com>" and found["reachable"]


def test_staged_shows_only_what_the_commit_adds(here: Path) -> None:
    git(here, "init", "-q")
    git(here, "add", "-A")
    git(here, "commit", "-qm", "first")
    (here / "app.env").write_text(f"NAME=y\nDB_PASSWORD={VALUE}\nAPI_TOKEN={OTHER}\n")
    assert remit(here, "scan", "--staged").returncode == 0
    git(here, "add", "-A")
    (here / "app.env").write_text("NAME=z\n")
    (found,) = findings(remit(here, "scan", "--staged", "-o", "json"))
    assert (found["variable"], found["line"], found["path"]) == ("API_TOKEN", 3, "app.env")


def test_the_hook_stops_a_commit_and_lets_a_clean_one_pass(here: Path) -> None:
    git(here, "init", "-q")
    assert remit(here, "scan", "--install-hook").returncode == 0
    assert remit(here, "scan", "--install-hook").returncode == 0
    git(here, "add", "-A")
    refused = git(here, "commit", "-qm", "first", check=False)
    assert refused.returncode != 0 and VALUE not in refused.stdout + refused.stderr
    (here / "app.env").write_text("DB_PASSWORD=${DB_PASSWORD}\n")
    git(here, "add", "-A")
    assert git(here, "commit", "-qm", "first", check=False).returncode == 0


def test_somebody_elses_hook_is_left_alone(here: Path) -> None:
    git(here, "init", "-q")
    hook = here / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho mine\n")
    done = remit(here, "scan", "--install-hook")
    assert "is not ours" in done.stderr and hook.read_text() == "#!/bin/sh\necho mine\n"


def test_a_certain_token_shows_no_more_than_its_published_beginning(here: Path) -> None:
    token = "ghp_" + "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1Wx2"
    (here / "app.env").write_text(f"X={token}\n")
    (found,) = findings(remit(here, "scan", "-o", "json", "--min-confidence", "0"))
    assert found["shown"] == "ghp_…" and token[4:12] not in json.dumps(found)


class _Forge(BaseHTTPRequestHandler):
    seen: ClassVar[list[str]] = []
    good = ""

    def do_GET(self) -> None:
        self.seen.append(self.path)
        live = self.headers.get("Authorization") == f"Bearer {self.good}"
        self.send_response(200 if live else 401)
        self.end_headers()
        self.wfile.write(b'{"login": "carol"}' if live else b"{}")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.mark.parametrize("good", [True, False])
def test_a_token_is_tried_only_where_it_was_declared(here: Path, good: bool) -> None:
    token = "ghp_" + "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1Wx2"
    (here / "app.env").write_text(f"GITHUB_TOKEN={token}\n")
    handler = type("Forge", (_Forge,), {"seen": [], "good": token if good else "other"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"github=http://127.0.0.1:{server.server_port}"
        base = ("scan", "-o", "json", "--min-confidence", "0")
        assert findings(remit(here, *base))[0]["live"] == "" and handler.seen == []  # type: ignore[attr-defined]
        (found,) = findings(remit(here, *base, "--verify", "--verify-endpoint", url))
        assert found["live"] == ("live" if good else "refused")
        assert handler.seen == ["/user"]  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def test_a_secret_is_tried_nowhere_without_a_declared_endpoint(here: Path) -> None:
    assert "no endpoint is declared" in remit(here, "scan", "--verify").stderr


def test_a_secret_is_tried_over_https_alone(here: Path) -> None:
    done = remit(here, "scan", "--verify", "--verify-endpoint", "github=http://forge.acme.com")
    assert "over HTTPS alone" in done.stderr
