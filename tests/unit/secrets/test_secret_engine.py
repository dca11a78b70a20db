"""The engine's parts: checksums, encodings undone, windows, the database on disk."""

from __future__ import annotations

import base64
import concurrent.futures
import os
import random
import stat
from pathlib import Path

import pytest
from tests.secret_examples import drawn_value, examples

from remit.inventory.secrets.engine import Engine, make_engine
from remit.inventory.secrets.engine.rules import catalogue
from remit.inventory.secrets.model import Blob, Hit

VALUE = drawn_value("random", random.Random(1))
PASSWORD = drawn_value("human", random.Random(2))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine()


def _token(name: str) -> str:
    rule = next(rule for rule in catalogue() if rule.id == name)
    return next(example.text for example in examples(rule) if example.secret)


def _sure(engine: Engine, path: str, data: bytes) -> list[Hit]:
    return [hit for hit in engine.scan(Blob(path=path, data=data)) if hit.confidence >= 50]


@pytest.mark.parametrize(
    "rule",
    [
        "github-token",
        "npm-token",
        "gitlab-routable-token",
        "grafana-service-token",
        "nats-seed",
        "age-key",
        "confluent-secret",
    ],
)
def test_a_true_checksum_passes_and_a_false_one_lowers_but_never_drops(engine: Engine, rule: str) -> None:
    text = _token(rule)
    middle = len(text) // 2 + 2
    wrong = text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
    if rule == "age-key":
        wrong = text[:30] + ("Q" if text[30] != "Q" else "P") + text[31:]
    [true] = _sure(engine, "a.txt", text.encode())
    false = [hit for hit in engine.scan(Blob(path="a.txt", data=wrong.encode())) if hit.rule == rule]
    assert true.checksum == "pass"
    assert [(hit.checksum, hit.confidence < true.confidence) for hit in false] == [("fail", True)]


def test_a_hit_says_where_it_lies_and_to_what_it_is_given(engine: Engine) -> None:
    data = f'# settings\n\nDB_PASSWORD = "{PASSWORD}"\n'.encode()
    [hit] = _sure(engine, "settings.py", data)
    assert (hit.line, hit.variable, data[hit.start : hit.end]) == (3, "DB_PASSWORD", PASSWORD.encode())


def test_a_value_is_in_no_repr(engine: Engine) -> None:
    [hit] = _sure(engine, "settings.py", f'db_password = "{PASSWORD}"'.encode())
    assert PASSWORD not in repr(hit)


def test_the_parts_of_an_address_say_whose_it_is(engine: Engine) -> None:
    [hit] = _sure(engine, "a.env", f"URL=postgres://app:{PASSWORD}@db.internal:5432/shop".encode())
    assert (hit.parts["user"], hit.parts["host"], hit.parts["database"]) == ("app", "db.internal:5432", "shop")


def test_a_token_in_base64_is_found_at_its_encoded_place(engine: Engine) -> None:
    token = _token("github-token")
    encoded = base64.b64encode(f"token={token}".encode()).decode()
    data = f'payload: "{encoded}"\n'.encode()
    hit = next(hit for hit in _sure(engine, "a.yaml", data) if hit.rule == "github-token")
    assert (hit.value, hit.decoded, data[hit.start : hit.end]) == (token.encode(), ("base64",), encoded.encode())


def test_base64_twice_is_undone_twice(engine: Engine) -> None:
    token = _token("github-token")
    encoded = base64.b64encode(base64.b64encode(f"token={token}".encode())).decode()
    hits = _sure(engine, "a.yaml", f'payload: "{encoded}"\n'.encode())
    assert ("github-token", ("base64", "base64")) in [(hit.rule, hit.decoded) for hit in hits]


def test_hexadecimal_is_undone(engine: Engine) -> None:
    token = _token("github-token")
    hits = _sure(engine, "a.yaml", f'payload: "{token.encode().hex()}"\n'.encode())
    assert (token.encode(), ("hex",)) in [(hit.value, hit.decoded) for hit in hits]


def test_a_secret_manifest_gives_the_password_decoded(engine: Engine) -> None:
    encoded = base64.b64encode(PASSWORD.encode()).decode()
    data = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  password: {encoded}\n".encode()
    [hit] = _sure(engine, "secret.yaml", data)
    assert (hit.value.decode(), hit.decoded) == (PASSWORD, ("base64",))


def test_an_escaped_address_is_read_as_written(engine: Engine) -> None:
    data = f"next=postgres%3A%2F%2Fapp%3A{VALUE}%40db.internal%2Fshop\n".encode()
    [hit] = [hit for hit in _sure(engine, "a.log", data) if hit.rule == "url-password"]
    assert (hit.value.decode(), hit.decoded, data[hit.start : hit.end]) == (VALUE, ("url",), VALUE.encode())


def test_a_string_in_pieces_is_joined(engine: Engine) -> None:
    token = _token("github-token")
    data = f'token = "{token[:20]}" +\n    "{token[20:]}"\n'.encode()
    hit = next(hit for hit in _sure(engine, "a.js", data) if hit.rule == "github-token")
    assert (hit.value, hit.decoded, hit.line) == (token.encode(), ("joined",), 1)


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_wide_text_is_read_and_places_are_those_of_its_bytes(engine: Engine, order: str, mark: str) -> None:
    data = f'{mark}# configuration\r\n$Password = "{PASSWORD}"\r\n'.encode(order)
    [hit] = _sure(engine, "run.ps1", data)
    assert data[hit.start : hit.end].decode(order) == PASSWORD


def test_only_the_windows_are_scanned(engine: Engine) -> None:
    first = f'db_password = "{PASSWORD}"\n'.encode()
    second = f'api_token = "{VALUE}"\n'.encode()
    blob = Blob(path="a.py", data=first + second, windows=((len(first), len(first) + len(second)),))
    assert [hit.value.decode() for hit in engine.scan(blob)] == [VALUE]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.md", 'login "remit_fzlzk6uh_01m82a58k9tx72c4mxhkfq5764" failed'),
        ("a.json", '{"id": "pv_01M82A57F9VCZRGRW45QBD2HHQ"}'),
        ("a.json", '{"image_id": {"Value": "ami-0edb8c10f3f1d1e7f"}}'),
        ("cacert.pem", "# Issuer: CN=Buypass Class 2 Root CA O=Buypass AS-983163327\n"),
        ("bao", "configkubeconfigcredentialattributesrpcpipefssecurityfsgzhttp: %waes128ctraes192ctraes256"),
        ("a.py", "connect(host=server.host, user=server.user, password=server.password, database=name)"),
        ("a.py", "Login(host=host, port=port, user=user, password=fields[4] if password else None)"),
        ("a.py", 'value = own.octets(answer, "secret", most=64)'),
        ("a.py", 'url = f"postgres://svc:{secret()}@db.acme/orders"'),
        ("a.py", 'add(tree, secret=f"kV7pQz3nWm8rTs5yXb2dLc9gHf{number:03}")'),
        ("a.py", 'rule("square", "Square OAuth secret", "sq0csp-", URL)'),
        ("a.py", 'confirm=r"cpassword=\\"(?P<secret>[A-Za-z0-9+/]{20,4})"'),
        ("a.py", 'PASSWD = b"root:x:0:0:root:/root:/bin/sh\\npg:x:70:70::/var/lib/pg:/x\\n"'),
        ("a.sql", "CREATE ROLE \"o\" LOGIN PASSWORD 'SCRAM-SHA-256$\u2026'"),
        ("etc/services", "kpasswd\t\t464/tcp"),
        ("etc/sudo.conf", "#Path askpass /usr/X11R6/bin/ssh-askpass"),
        ("a.txt", "mysqladmin -u root password 'new-password'"),
        (
            "a.crt",
            f"-----BEGIN CERTIFICATE-----\n{'AKChOBZmLqdWHyGcBvod7bkixTgm2E5P7KN/ed5GIaGHd48LCA6uzrv4wBZn5nCY'}\n",
        ),
        ("a.md", "`detect-secrets` (Apache-2.0) with `betterleaks`"),
        ("a.so", "\0_ZThn104_NK11cmd_context7displayERSoP4exprjjPKcR7sbufferI6symbolLj16EE\0"),
        ("a.map", "0x0041 _ZN11mpq_managerILb1EE3divERK3mpqS3"),
        ("a.so", "x=\0" + "d0d1d2dadcdedidobEbFbGbHbIbJbKbLbM" + "\0"),
    ],
)
def test_what_only_looks_like_a_secret_is_left_alone(engine: Engine, path: str, text: str) -> None:
    assert _sure(engine, path, text.encode()) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", f'connect("host=db user=app password={VALUE} dbname=orders")'),
        ("a.env", f"DATABASE_URL=postgres://svc:{VALUE}@db.acme/orders\n"),
        ("a.py", f'rule("square", "Square OAuth secret", "{VALUE}")'),
        ("a.json", f'{{"token": "jt_{VALUE}"}}'),
        ("a.sql", f"ALTER ROLE o LOGIN PASSWORD '{PASSWORD}'"),
        ("a.bin", f"\0\0password={VALUE}\0\0"),
        ("a.env", 'DB_PASSWORD="tiger=2024"'),
        ("a.env", f'DB_PASSWORD="{VALUE[:9]}[^{VALUE[9:]}"'),
    ],
)
def test_what_stands_in_the_same_place_and_is_one_is_found(engine: Engine, path: str, text: str) -> None:
    assert _sure(engine, path, text.encode()), text


LATE_DIGIT = "".join(random.Random(3).choices("bdfgjkqvwxzBDFGJKQVWXZ", k=18)) + "A7q"
"""Its only digit comes last but one: eighteen letters and digits have none before it once in twenty times."""


@pytest.mark.parametrize(
    "text",
    [
        f"0 3 * * * root PGPASSWORD={LATE_DIGIT} pg_dump shop > /b",
        f"the db password is {LATE_DIGIT} please rotate",
        f"mysql --password {LATE_DIGIT} shop",
        f"DB_PASSWORD={LATE_DIGIT[:9]}MOck{LATE_DIGIT[9:]}",
    ],
)
def test_a_password_with_one_late_digit_is_found_in_the_midst_of_a_line(engine: Engine, text: str) -> None:
    [hit] = _sure(engine, "etc/crontab", (text + "\n").encode())
    assert hit.end - hit.start >= len(LATE_DIGIT)


def test_a_private_key_is_one_hit(engine: Engine) -> None:
    body = "\n".join(base64.b64encode(random.Random(3).randbytes(48)).decode() for _ in range(20))
    armour = "PRIVATE" + " KEY-----"
    data = f"-----BEGIN {armour}\n{body}\n-----END {armour}\n".encode()
    [hit] = _sure(engine, "id", data)
    assert (hit.rule, hit.value) == ("private-key", data.strip())


def test_one_engine_serves_several_threads(engine: Engine) -> None:
    blob = Blob(path="a.py", data=f'db_password = "{PASSWORD}"\n'.encode() * 50)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: len(engine.scan(blob)), range(16)))
    assert set(counts) == {50}


def test_a_forked_child_scans_with_the_engine_of_its_parent(engine: Engine) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        found = engine.scan(Blob(path="a.py", data=f'db_password = "{PASSWORD}"\n'.encode()))
        os.write(writing, str(len(found)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 10) == b"1"
    os.close(reading)


def test_the_database_is_kept_for_us_alone(tmp_path: Path) -> None:
    pytest.importorskip("hyperscan")
    make_engine(cache=tmp_path)
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"x" * 100), lambda file: file.chmod(0o666)])
def test_a_database_that_is_not_as_we_wrote_it_is_built_anew(tmp_path: Path, spoil: object) -> None:
    pytest.importorskip("hyperscan")
    make_engine(cache=tmp_path)
    [file] = tmp_path.iterdir()
    spoil(file)  # type: ignore[operator]
    engine = make_engine(cache=tmp_path)
    assert _sure(engine, "a.py", f'db_password = "{PASSWORD}"'.encode())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
