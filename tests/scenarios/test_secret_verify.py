"""`remit scan --verify` on real servers: a password that is good is live, a changed one refused, and neither is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from redis_stage import redis_server
from remit.inventory.connectors.files.testing import fingerprint
from remit.inventory.secrets.engine import make_engine
from remit.inventory.secrets.live import Checks, parse_endpoints
from remit.inventory.secrets.survey import Sighting, Survey
from servers import postgres_server


def verdicts(tmp_path: Path, declared: str, *urls: str) -> dict[int, str]:
    """Line → what was said of the password in the URL there."""
    (tmp_path / "app.env").write_text("".join(f"DATABASE_URL_{number}={url}\n" for number, url in enumerate(urls)))
    survey = Survey(
        engine=make_engine(), fingerprint=fingerprint, workers=1, min_confidence=0,
        attempt=Checks(parse_endpoints([declared]), clock=lambda: datetime.now(UTC)),
    )  # fmt: skip
    found = [each.found for each in survey.files([str(tmp_path)]) if isinstance(each, Sighting)]
    return {each.line: each.live for each in found if each.live}


def test_a_postgres_password_is_tried_where_its_server_was_declared(tmp_path: Path) -> None:
    with postgres_server() as server:
        at = f"{server.host}:{server.port}"
        good = f"postgres://{server.user}:{quote(server.password, safe='')}@{at}/postgres"
        bad = f"postgres://{server.user}:Zq4kV9sT2mXw7Bn3Rj5L@{at}/postgres"
        assert verdicts(tmp_path, f"postgres=postgres://{at}?sslmode=disable", good, bad) == {1: "live", 2: "refused"}
        assert verdicts(tmp_path, "postgres=postgres://db.acme:5432", good, bad) == {}


def test_a_redis_password_is_tried_where_its_server_was_declared(tmp_path: Path) -> None:
    with redis_server() as server:
        at = f"{server.host}:{server.port}"
        good = f"redis://admin:{quote(server.password, safe='')}@{at}/0"
        bad = f"redis://admin:Zq4kV9sT2mXw7Bn3Rj5L@{at}/0"
        assert verdicts(tmp_path, f"redis=redis://{at}", good, bad) == {1: "live", 2: "refused"}
