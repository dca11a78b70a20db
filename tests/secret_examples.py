"""Labelled examples for every rule of the secret scan, made at run time: no token is ever written into this repository.

Provenance: invented here. A positive is drawn from the rule's own format (each character by a seeded generator) and its
checksum is computed by the published method; a negative is the same text cut short, or with one character repeated
where randomness belongs. `LINES` are lines as people write them, with what is a secret in them and what is not.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from remit.inventory.secrets.engine.checksums import base36, base62, bech32_polymod, crc16
from remit.inventory.secrets.engine.rule import Rule

SEED = 20_26


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text, and whether `rule` must find something in it."""

    rule: str
    text: str
    secret: bool


def examples(rule: Rule) -> Iterator[Example]:
    """Two positives and two negatives of `rule`."""
    chance = random.Random(f"{SEED} {rule.id}")
    for _ in range(2):
        whole, value = _drawn(rule, chance)
        yield Example(rule=rule.id, text=whole, secret=True)
        yield Example(rule=rule.id, text=_cut(whole, value), secret=False)


def _drawn(rule: Rule, chance: random.Random) -> tuple[str, str]:
    for _ in range(200):
        text = Drawer(chance).draw(rule.confirm)
        match = re.match(rule.confirm, text, re.IGNORECASE if rule.ignore_case else 0)
        if match is None:
            continue
        value = match["secret"]
        if "${" in value or "{{" in value:
            continue
        valid = _with_checksum(rule, value, chance)
        whole = text.replace(value, valid)
        if re.match(rule.confirm, whole, re.IGNORECASE if rule.ignore_case else 0):
            return whole, valid
    raise AssertionError(rule.id)


def _cut(whole: str, value: str) -> str:
    """The text with its value cut to nearly nothing: no longer of the format."""
    return whole.replace(value, value[: max(1, min(len(value) // 4, 2))])


def _with_checksum(rule: Rule, value: str, chance: random.Random) -> str:
    raw = value.encode("latin-1")
    if rule.checksum == "github":
        kind, _, body = raw.partition(b"_")
        return (kind + b"_" + body[:30] + base62(zlib.crc32(body[:30]), 6)).decode()
    if rule.checksum == "gitlab":
        return (raw[:-7] + base36(zlib.crc32(raw[:-7]))).decode()
    if rule.checksum == "crc-hex":
        start = raw.rpartition(b"_")[0]
        return f"{start.decode()}_{zlib.crc32(start):08x}"
    if rule.checksum == "atlassian":
        start = raw[:-9].replace(b"=", b"x")
        return f"{start.decode()}={zlib.crc32(start):08X}"
    if rule.checksum == "confluent":
        start = raw[:-6]
        return start.decode() + base64.b64encode(zlib.crc32(start).to_bytes(4, "little")).decode().rstrip("=")
    if rule.checksum == "nkey":
        seed = bytes((18 << 3, 0)) + chance.randbytes(32)
        return base64.b32encode(seed + crc16(seed).to_bytes(2, "little")).decode().rstrip("=")
    if rule.checksum == "bech32":
        return _bech32("age-secret-key-", chance)
    if rule.checksum == "pypi":
        macaroon = b"\x02\x01\x08pypi.org\x02\x24" + chance.randbytes(60)
        return "pypi-" + base64.urlsafe_b64encode(macaroon).decode().rstrip("=")
    if rule.checksum == "jwt":
        return jwt({"alg": "HS256"}, {"sub": "app", "n": chance.random()}, chance)
    if rule.checksum == "json-base64":
        start_of = value.partition("_")[0]
        claims = {"e": "a@b.c", "k": [chance.random() for _ in range(12)]}
        text = json.dumps(claims, separators=(",", ":")).encode()
        return (
            f"{start_of}_"
            + base64.b64encode(text).decode().rstrip("=")
            + ("_" + "kT9x" * 11 if start_of == "sntrys" else "")
        )
    if rule.basic:
        password = "".join(chance.choice(string.ascii_letters + string.digits) for _ in range(15))
        return base64.b64encode(f"svc:{password}".encode()).decode()
    return value


def jwt(header: dict[str, Any], claims: dict[str, Any], chance: random.Random) -> str:
    """A token of that header and those claims, with a signature of nobody."""
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)] + [chance.randbytes(32)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _bech32(prefix: str, chance: random.Random) -> str:
    letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    data = [chance.randrange(32) for _ in range(52)]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    check = bech32_polymod([*expanded, *data, 0, 0, 0, 0, 0, 0]) ^ 1
    tail = [(check >> 5 * (5 - place)) & 31 for place in range(6)]
    return (prefix + "1" + "".join(letters[number] for number in data + tail)).upper()


LINES: tuple[tuple[str, str, str], ...] = (
    # path, line with § for the value, what is drawn for it
    ("app/mail.py", 'server.login("robot@example.io", "§")', "human"),
    ("app/db.py", 'pymysql.connect("db.internal", "reader", "§", "inventory")', "human"),
    ("Db.java", 'DriverManager.getConnection(url, "reader", "§");', "human"),
    ("app/http.py", 'requests.get(url, auth=("reader", "§"))', "human"),
    ("app/token.js", "jwt.sign(payload, '§')", "random"),
    ("Form.java", 'driver.findElement(By.id("password")).sendKeys("§");', "human"),
    ("Program.cs", 'public string Secret { get; set; } = "§";', "random"),
    ("Program.cs", 'var password = Encoding.UTF8.GetBytes("§");', "human"),
    ("Main.java", 'byte[] key = "§".getBytes();', "random"),
    ("deploy.yaml", "- { name: DB_PASSWORD, value: § }", "human"),
    ("setup.bat", "net user robot § /add", "human"),
    ("ks.cfg", "rootpw --plaintext §", "human"),
    ("pack.sh", "unzip -P § backup.zip", "human"),
    ("pack.sh", "openssl enc -aes-256-cbc -k § -in backup.tar", "human"),
    ("db.properties", "url=jdbc:oracle:thin:scott/§@//db.internal:1521/main", "human"),
    ("app/config.py", 'SECRET_KEY = env("SECRET_KEY", default="§")', "random"),
    ("notes/a.txt", "[INFO] calling the mailgun API\n[DEBUG] Using Key=§", "random"),
    ("app/config.py", 'db_password = "§"', "human"),
    ("app/config.py", "API_KEY = '§'", "random"),
    (".env", "DB_PASSWORD=§", "human"),
    ("deploy.sh", 'export GRAFANA_TOKEN="§"', "random"),
    ("config.yaml", "password: §", "human"),
    ("config.yaml", '  client_secret: "§"', "random"),
    ("settings.json", '{"db": {"password": "§"}}', "human"),
    ("settings.json", '  "api_key": "§",', "random"),
    ("Main.java", 'private static final String SECRET_KEY = "§";', "random"),
    ("main.go", 'apiToken := "§"', "random"),
    ("main.go", "var clientSecret string = `§`", "random"),
    ("Program.cs", 'string password = "§";', "human"),
    ("index.php", "'password' => '§',", "human"),
    ("index.php", "define('AUTH_KEY', '§');", "random"),
    ("app.rb", 'config[:password] = "§"', "human"),
    ("lib.rs", 'let api_key: &str = "§";', "random"),
    ("App.kt", 'val accessToken = "§"', "random"),
    ("App.swift", 'let apiSecret = "§"', "random"),
    ("x.lua", 'local secret_key = "§"', "random"),
    ("run.ps1", '$Password = "§"', "human"),
    ("run.ps1", 'ConvertTo-SecureString "§" -AsPlainText -Force', "human"),
    ("app.properties", "spring.datasource.password=§", "human"),
    ("app.ini", "password = §", "human"),
    ("web.config", '<add key="ApiSecret" value="§" />', "random"),
    ("settings.xml", "<password>§</password>", "human"),
    ("main.tf", 'variable "db_password" {\n  type = string\n  default = "§"\n}', "human"),
    ("pod.yaml", '- name: DB_PASSWORD\n  value: "§"', "human"),
    ("Dockerfile", "ENV API_TOKEN=§", "random"),
    ("run.sh", "deploy --password §", "human"),
    ("run.sh", "mysql -u root -p§ shop", "human"),
    ("run.sh", "curl -u admin:§ https://api.shop.test/v1", "human"),
    ("run.sh", "sshpass -p '§' ssh deploy@db", "human"),
    ("notes.txt", "postgres://app:§@db.internal:5432/shop", "human"),
    ("notes.txt", "Server=db;Database=shop;User Id=app;Password=§;", "human"),
    ("netrc", "machine git.internal login ci password §", "human"),
    ("pgpass", "db.internal:5432:shop:app:§", "human"),
    ("x.sql", "CREATE USER app IDENTIFIED BY '§';", "human"),
    ("x.sql", "ALTER ROLE app WITH PASSWORD '§';", "human"),
    ("x.http", "Authorization: Bearer §", "random"),
    ("Main.java", 'dataSource.setPassword("§");', "human"),
    ("x.py", 'connect(host="db", user="app", password="§")', "human"),
    ("x.js", 'adafruitToken = "§"', "random"),
    ("x.yaml", "datadog_api_key: §", "random"),
)
HARMLESS: tuple[tuple[str, str], ...] = (
    ("rules.py", 'token("scalr-token", r"at-[a-z0-9]{12,20}\\.", keywords=("at-",))'),
    ("app/roles.py", "next_step = \"SET password_encryption = 'scram-sha-256'\""),
    ("app/config.py", '{"password_authentication": "scram-sha-256"}'),
    ("nginx.conf", "proxy_pass http://unix:/var/lib/app/enforce.sock:/v1/http;"),
    ("app/config.py", 'jwt.sign(payload, "secret")'),
    ("app/config.py", 'connect("db.internal", "reader", "inventory")'),
    ("app/config.py", 'authenticate("user", "password")'),
    ("form.py", 'browser.find("password").send_keys("password")'),
    ("Program.cs", 'public string Password { get; set; } = "";'),
    ("deploy.yaml", "- { name: DB_PASSWORD, value: ${DB_PASSWORD} }"),
    ("setup.bat", "net user administrator /domain"),
    ("ks.cfg", "rootpw --lock"),
    ("app/config.py", 'public_key = "§"'),
    ("package.py", 'rev = "§"'),
    ("notes/a.txt", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"),
    ("notes/a.txt", "example.io/thing v1.2.3 h1:§="),
    ("app/config.py", 'password = os.environ["DB_PASSWORD"]'),
    ("app/config.py", "token = get_token(user)"),
    ("app/config.py", "def login(user: str, password: str) -> None:"),
    ("app/config.py", "self.password = password"),
    ("x.js", "const apiKey = process.env.API_KEY;"),
    ("x.js", "const token = await auth.getToken();"),
    ("i18n/en.json", '"password": "Enter your password",'),
    ("i18n/en.json", '"forgot_password": "Forgot your password?",'),
    ("deploy.yaml", "password: ${DB_PASSWORD}"),
    ("deploy.yaml", "password: {{ .Values.db.password }}"),
    ("deploy.yaml", 'token: "<your-token>"'),
    (".env.example", "API_KEY=your_api_key_here"),
    (".env.example", "SECRET_KEY=changeme"),
    ("README.md", 'api_key = "xxxxxxxxxxxxxxxxxxxxxxxx"'),
    ("package-lock.json", '"integrity": "sha512-§",'),
    ("ci.yml", "uses: actions/checkout@0123§"),
    ("x.tf", "password = var.db_password"),
    ("x.tf", "secret_id = aws_secretsmanager_secret.db.id"),
    ("x.py", 'SECRET_NAME = "prod/db/main"'),
    ("x.py", 'TOKEN_URL = "https://auth.internal/oauth/token"'),
    ("x.py", 'PASSWORD_FIELD = "password_field"'),
    ("x.ts", "password: string;"),
    ("x.ts", 'type: "password",'),
    ("x.cs", "public string Password { get; set; }"),
    ("x.java", "String password = request.getParameter(name);"),
    ("notes.txt", "postgres://user:password@localhost/db"),
    ("notes.txt", "postgres://$USER:$PASSWORD@localhost/db"),
    ("x.yaml", "token: op://vault/item/field"),
    ("x.yaml", "password: ENC[AES256_GCM,data:ab]"),
    ("x.py", 'request_id = "7d1c2c3e-9a53-4a6f-8b7e-2f8f0b1c9d2e"'),
)


def drawn_value(kind: str, chance: random.Random) -> str:
    """A password as people make them, or a random key."""
    letters = string.ascii_letters + string.digits
    if kind == "random":
        return "".join(chance.choice(letters) for _ in range(chance.choice((24, 32, 40))))
    word = "".join(chance.choice("bcdfghjklmnprstvz") + chance.choice("aeiou") for _ in range(3))
    return f"{word.capitalize()}{chance.choice('!#%+-')}{chance.randrange(100, 9999)}{chance.choice(letters)}"


class Drawer:
    """Draws a text that a pattern matches."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def draw(self, pattern: str) -> str:
        """One text; assertions are not looked at, so that the caller checks."""
        return self._sequence(re._parser.parse(pattern))  # type: ignore[attr-defined]

    def _sequence(self, parsed: Any) -> str:
        return "".join(self._one(str(kind), argument) for kind, argument in parsed)

    def _one(self, kind: str, argument: Any) -> str:
        if kind == "LITERAL":
            return chr(argument)
        if kind == "IN":
            return self._chance.choice(_members(argument))
        if kind in {"MAX_REPEAT", "MIN_REPEAT"}:
            low, high, inner = argument
            count = self._chance.randint(low, min(int(high), low + 12))
            return "".join(self._sequence(inner) for _ in range(count))
        if kind == "SUBPATTERN":
            return self._sequence(argument[3])
        if kind == "BRANCH":
            return self._sequence(self._chance.choice(argument[1]))
        if kind == "NOT_LITERAL":
            return self._chance.choice([c for c in _PLAIN if c != chr(argument)])
        if kind == "ANY":
            return self._chance.choice(_PLAIN)
        return ""


_PLAIN = string.ascii_letters + string.digits
_SPACES = " "


def _members(items: Any) -> str:
    negated = str(items[0][0]) == "NEGATE"
    members = "".join(_member(str(kind), argument) for kind, argument in items)
    if negated:
        return "".join(c for c in _PLAIN if c not in members)
    useful = "".join(c for c in members if c in _PLAIN + "+/_-.=~:")
    return useful or members


def _member(kind: str, argument: Any) -> str:
    if kind == "LITERAL":
        return chr(argument)
    if kind == "RANGE":
        return "".join(chr(code) for code in range(argument[0], argument[1] + 1))
    if kind == "CATEGORY":
        name = str(argument)
        return string.digits if name.endswith("DIGIT") else _SPACES if name.endswith("SPACE") else _PLAIN + "_"
    return ""
