"""What is a secret, what is not, and what its shape tells."""

from __future__ import annotations

import base64
import json

import pytest

from remit.inventory.connectors.files.dsn import find_dsns, parse_conninfo
from remit.inventory.connectors.files.values import (
    aws_account,
    has_valid_checksum,
    is_placeholder,
    is_secret_name,
    recognise,
)


@pytest.mark.parametrize(
    "value", ["${{ github.token }}", "${{ secrets.DEPLOY_KEY }}", "${{ steps.app.outputs.token }}"]
)
def test_an_expression_of_a_workflow_is_no_secret(value: str) -> None:
    assert is_placeholder(value)
    assert not is_placeholder(f"{value}tail-of-a-secret")


@pytest.mark.parametrize(
    "value",
    ["", "${DB_PASSWORD}", "{{ vault.x }}", "$TOKEN", "%PASS%", "<your-token>", "changeme", "change-me-please", "your_api_key",
     "vault:secret/data/x#y", "op://vault/item/field", "ENC[AES256_GCM,data:x]", "xxxxxxxx", "********", "AKIAIOSFODNN7EXAMPLE",
     "arn:aws:secretsmanager:eu-west-1:1:secret:x", "/run/secrets/db", "null", "TODO", "[REDACTED]", "process.env.KEY",
     "projects/p/secrets/s/versions/1", "insert-password_here"],
)  # fmt: skip
def test_a_reference_or_a_filler_is_no_secret(value: str) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize(
    "value", ["hunter22", "a-7f3b2c", "postgres", "s3cr3t!", "Passw0rd", "correct horse", "p@ss$word{}"]
)
def test_what_could_be_a_password_counts_as_one(value: str) -> None:
    assert not is_placeholder(value)


@pytest.mark.parametrize(
    "name",
    ["DB_PASSWORD", "apiKey", "SECRET_KEY_BASE", "githubToken", "client-secret", "PGPASSWORD", "spring.datasource.password",
     "SLACK_WEBHOOK", "JWT_SECRET", "SENTRY_DSN", "PRIVATE_KEY", "X_API_KEY"],
)  # fmt: skip
def test_names_that_hold_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["PASSWORD_FILE", "TOKEN_URL", "SECRET_NAME", "PUBLIC_KEY", "KEY_ID", "max_tokens", "TOKEN_TTL", "primary_key", "author",
     "password_min_length", "secretName", "PATH", "AUTH_METHOD", "tokenizer"],
)  # fmt: skip
def test_names_that_only_speak_of_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_an_aws_key_id_tells_its_account() -> None:
    assert aws_account("ASIAQNZGKIQY56JQ7WML") == "029608264753"
    assert aws_account("ASIAY34FZKBOKMUTVV7A") == "609629065308"


def test_an_old_aws_key_id_does_not() -> None:
    assert aws_account("AKIAIOSFODNN7EXAMPLE") is None


def test_a_jwt_names_its_subject_and_end() -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"iss": "https://k8s.local", "sub": "system:serviceaccount:prod:api", "exp": 1900000000, "iat": 1800000000}
    known = recognise(f"{part({'alg': 'RS256'})}.{part(claims)}.c2lnbmF0dXJl")
    assert known is not None
    assert known.subject == ("oidc", "https://k8s.local", "subject", "system:serviceaccount:prod:api")
    assert known.expires is not None and known.expires.year == 2030


@pytest.mark.parametrize("claims", [b"null", b"[]", b'{"exp": 1e400}', b'{"exp": true, "iss": 5}', b"\xff"])
def test_a_strange_jwt_is_still_only_a_token(claims: bytes) -> None:
    body = base64.urlsafe_b64encode(b'{"a":' + claims + b"}" if claims == b"null" else claims).decode().rstrip("=")
    known = recognise(f"eyJhbGciOiJub25lIn0.eyJ{body}.x")
    assert known is None or known.subject is None


def test_the_checksum_of_an_invented_github_token_fails() -> None:
    assert not has_valid_checksum("ghp_" + "a" * 36)


def test_the_checksum_of_a_well_formed_token_passes() -> None:
    import zlib

    digits, number, body = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", zlib.crc32(b"x" * 30), ""
    while number:
        number, digit = divmod(number, 62)
        body = digits[digit] + body
    assert has_valid_checksum("ghp_" + "x" * 30 + body.rjust(6, "0"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+asyncpg://svc:p%40ss@db.internal/orders?x=1",
            ("postgres", "db.internal:5432", "svc", "p@ss", "orders"),
        ),
        ("redis://:secret@cache:6380/0", ("redis", "cache:6380", "", "secret", "")),
        ("amqps://u:p/w@mq", None),
        ("mongodb+srv://u:pw@a.example,b.example/db", ("mongodb", "a.example:27017", "u", "pw", "db")),
        ("https://tok3n@github.com/a/b.git", ("http", "github.com", "tok3n", "", "")),
        ("postgres://u:p@[::1]:5433/x", ("postgres", "::1:5433", "u", "p", "x")),
        ("https://example.com/plain", None),
        ("jdbc:postgresql://h/db?user=u&password=pw", ("postgres", "h:5432", "", "pw", "db")),
    ],
)
def test_connection_urls(url: str, expected: tuple[str, ...] | None) -> None:
    found = [(dsn.system, dsn.endpoint, dsn.user, dsn.password, dsn.database) for dsn in find_dsns(f"x {url} y")]
    assert found == ([expected] if expected else [])


def test_libpq_connection_strings() -> None:
    dsn = parse_conninfo("host=db port=5433 user=svc password='a b' dbname=orders")
    assert dsn is not None
    assert (dsn.system, dsn.endpoint, dsn.user, dsn.password, dsn.database) == (
        "postgres",
        "db:5433",
        "svc",
        "a b",
        "orders",
    )


def test_ado_connection_strings() -> None:
    dsn = parse_conninfo("Server=tcp:sql.example,1433;Database=orders;User Id=svc;Password=pw1;Encrypt=true")
    assert dsn is not None
    assert (dsn.system, dsn.endpoint, dsn.user, dsn.password) == ("mssql", "sql.example:1433", "svc", "pw1")
