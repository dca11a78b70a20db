"""`remit discover files` on a running installation: secrets in files and history become one inventory, and no value stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installation import Installation
from remit.kernel.ids import name

SHARED = "Gq7Lw2Vx9Tz4Nb6KdR1m"
"""The password of one database role, in three places."""
GONE = "Ty5Hn8Bv3Cx6Zl1Pk9Wq"
AWS = "kZ8vQ2mN5xT1pL7wR4cY9bJ3hD6gF0sA2eU8iO5q"
LOOSE = "Mx4Rj7Fs2Dg9Ku5Ye8Vb"
PATHS = {
    "api/.env": f"DATABASE_URL=postgres://orders:{SHARED}@db.acme:5432/shop\n",
    "worker/main.py": f'DSN = "postgres://orders:{SHARED}@db.acme:5432/shop"\n',
    "notes/deploy.txt": f"psql postgres://orders:{SHARED}@db.acme:5432/shop\n",
    "ops/aws.txt": f"AKIAY34FZKBOKMUTVV7A\naws_secret_access_key = {AWS}\n",
    "tests/fixture.py": f'password = "{LOOSE}"\n',
    "CODEOWNERS": "* @acme/shop\n",
}


def git(root: Path, *words: str) -> None:
    command = ["git", "-C", str(root), "-c", "user.email=carol@acme.com", "-c", "user.name=Carol", *words]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "HOME": str(root)})


def plant(root: Path) -> Path:
    for path, content in {**PATHS, "old.env": f"API_TOKEN={GONE}\n"}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    git(root, "init", "-q")
    git(root, "remote", "add", "origin", "git@github.com:acme/shop.git")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    git(root, "rm", "-q", "old.env")
    git(root, "commit", "-qm", "second")
    return root


@pytest.fixture(scope="module")
def made() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="rds"))
    installation = Installation(root)
    try:
        installation.start()
        installation.cli("discover", "files", plant(root / "tree"), "--format", "json")
        yield installation
    finally:
        installation.stop()
        shutil.rmtree(root, ignore_errors=True)


def told(made: Installation, *words: str) -> Any:
    return json.loads(made.cli(*words, "--format", "json").stdout)


def findings(made: Installation) -> list[dict[str, Any]]:
    listed = made.admin.get("/api/v1/findings", limit=1000)["rows"]
    assert isinstance(listed, list)
    return listed


def test_a_secret_in_three_places_is_one_credential_of_one_role(made: Installation) -> None:
    role = made.admin.get(
        "/api/v1/identities/" + name("postgres", "db.acme:5432", "role", "orders").replace("%", "%25")
    )
    (credential,) = role["credentials"]
    places = {
        each["place"]
        for each in findings(made)
        if each["subject"] and credential["fingerprint"].partition(":")[2] in each["subject"]
    }
    assert {Path(place.rpartition(":")[0]).name for place in places} == {".env", "main.py", "deploy.txt"}


def test_a_deleted_file_is_found_with_its_author(made: Installation) -> None:
    (found,) = [each for each in findings(made) if "old.env@" in each["place"]]
    assert "only" not in found["title"] and "Carol <carol@acme.com>" in found["detail"]
    assert "gone from the files" in found["detail"]


def test_an_aws_secret_is_the_credential_of_its_key_id(made: Installation) -> None:
    (found,) = [each for each in findings(made) if "aws.txt" in each["place"]]
    assert "AKIAY34FZKBOKMUTVV7A" in found["title"] and found["severity"] == "high"


def test_what_lies_in_tests_is_not_severe(made: Installation) -> None:
    (found,) = [each for each in findings(made) if "fixture.py" in each["place"]]
    assert found["severity"] == "low" and "test" in found["detail"]


def test_who_wrote_it_and_who_owns_the_path_are_proposed(made: Installation) -> None:
    shown = json.dumps(told(made, "own", name("postgres", "db.acme:5432", "role", "orders")))
    assert "carol@acme.com" in shown and "@acme/shop" in shown


def test_no_value_is_kept_anywhere(made: Installation) -> None:
    made.cli("discover", "files", made.root / "tree")
    kept = b"".join(file.read_bytes() for file in made.data.rglob("*") if file.is_file()) + made.log.read_bytes()
    for path in ("findings", "identities", "inventory"):
        kept += json.dumps(made.admin.get(f"/api/v1/{path}", limit=1000)).encode()
    assert len(kept) > 10_000
    for value in (SHARED, GONE, AWS, LOOSE):
        assert not [at for at in range(len(value) - 7) if value[at : at + 8].encode() in kept]


def test_a_second_scan_reads_less_and_retires_nothing(made: Installation) -> None:
    before = {each["place"] for each in findings(made)}
    done = told(made, "discover", "files", str(made.root / "tree"))
    assert done["findings_new"] == 0 and {each["place"] for each in findings(made)} == before
    assert list((made.data / "cache/scanned").iterdir())


def test_the_scan_can_be_left_out(made: Installation) -> None:
    other = made.root / "other"
    other.mkdir()
    (other / "x.txt").write_text(f"password = {LOOSE}\n")
    done = told(made, "discover", "files", str(other), "--no-secrets")
    assert done["facts"].get("finding", 0) == 0
    assert told(made, "discover", "files", str(other))["facts"]["finding"] == 1
