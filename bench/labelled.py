"""Files with one secret each, and files that only look so: made at run time, the same for the same seed.

Nothing here is a secret of anybody: every value is drawn by a seeded generator, checksums are computed by the published
methods, and no token is written into the repository.

    where     61 ways to give a value to a name: code of fifteen languages, settings, markup, command lines, manifests
    what      tokens of 27 providers (right checksums), random keys of nine alphabets, passwords as people make them
    decoys    look-ups, templates, documentation words, masks, hashes, ids, paths, types, prose, settings about secrets,
              translations, lock files, public keys, identifiers with digits

Names, ways and words are each cut in two: `Part.FIT` is what `tools/fit_secret_score.py` learns from, `Part.JUDGE` what
the benchmark judges by. Neither side holds a name, a way to write it or a word of the other.
"""

from __future__ import annotations

import base64
import json
import string
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import TypeVar

from remit.inventory.secrets.engine.checksums import base36, base62

_T = TypeVar("_T")
_ALNUM = string.ascii_letters + string.digits
_SMALL = string.ascii_lowercase + string.digits
_HEX = "0123456789abcdef"
_URL = _ALNUM + "-_"


class Part(IntEnum):
    """Which half of names, ways and words."""

    FIT = 0
    JUDGE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One file. `secret` is the value in it; empty: there is none, and whatever is found is false."""

    kind: str
    path: str
    text: str
    secret: str = ""


def samples(part: Part, count: int, *, seed: int = 1) -> Iterator[Sample]:
    """`count` files, of which 45 in 100 hold a secret."""
    dice = Random(f"{seed} {part.value}")
    half = _Half(part, dice)
    for _ in range(count):
        roll = dice.random()
        if roll < 0.12:
            yield half.of_provider()
        elif roll < 0.30:
            yield half.key()
        elif roll < 0.45:
            yield half.password()
        elif roll < 0.72:
            yield half.no_value()
        elif roll < 0.86:
            yield half.about()
        else:
            yield half.harmless()


class _Half:
    """One half of everything, and the dice."""

    def __init__(self, part: Part, dice: Random) -> None:
        self._dice = dice
        self._ways = _cut(_WAYS, part)
        self._names = {kind: _cut(names.split(), part) for kind, names in _NAMES.items()}
        self._words = _cut(_WORDS.split(), part)
        self._services = _cut(_SERVICES.split(), part)
        self._decoys = _cut(_DECOYS, part)
        self._about = _cut(_ABOUT.split(), part)
        self._identifiers = _cut(_IDENTIFIERS.split(), part)

    def of_provider(self) -> Sample:
        name, make = self._dice.choice(_TOKENS)
        secret = make(self._dice)
        return self._given(f"provider: {name}", self._name("key"), secret, secret)

    def key(self) -> Sample:
        secret = _random_key(self._dice)
        named = self._dice.random() < 0.35
        return self._given("random key", self._service() if named else self._name("key"), secret, secret)

    def password(self) -> Sample:
        secret = self._password()
        return self._given("password", self._name("password"), secret, secret)

    def no_value(self) -> Sample:
        """A name that asks for a secret, and no secret."""
        name = self._name(self._dice.choice(("key", "password")))
        value = self._dice.choice(self._decoys)(self._dice, self.word)
        return self._given("decoy: no value", name, value, "")

    def about(self) -> Sample:
        """A setting that speaks of secrets: where they are, how long, what they are called."""
        value = self._dice.choice(self._decoys)(self._dice, self.word)
        return self._given("decoy: about secrets", self._dice.choice(self._about), value, "")

    def harmless(self) -> Sample:
        """Random characters that are no secret: hashes, ids, versions, public keys."""
        value = self._dice.choice(_HARMLESS)(self._dice, self.word)
        if self._dice.random() < 0.2:
            return _of_lock_file(self._dice, self.word)
        return self._given("decoy: harmless", self._dice.choice(self._identifiers), value, "")

    def word(self) -> str:
        return self._dice.choice(self._words)

    def _name(self, kind: str) -> str:
        name = self._dice.choice(self._names[kind])
        prefix = self._dice.choice(("", "", "", "", "prod_", "app.", "my_", "db_"))
        return (prefix + name).upper() if self._dice.random() < 0.15 else prefix + name

    def _service(self) -> str:
        return self._dice.choice(self._services) + self._dice.choice(
            ("_key", "Key", "_token", "Token", "_api_key", "ApiKey", "_secret", "_access_token", "_client_secret")
        )

    def _password(self) -> str:
        dice, one, two = self._dice, self.word(), self.word()
        return [
            lambda: f"{one}{dice.randrange(10, 9999)}",
            lambda: f"{one.capitalize()}{dice.randrange(1, 999)}{dice.choice('!@#$%&*')}",
            lambda: f"{one}{dice.choice('!@#.-_')}{two}{dice.randrange(99)}",
            lambda: one.replace("a", "4").replace("e", "3").replace("o", "0") + dice.choice("!@#$") + "7",
            lambda: _drawn(dice, _SMALL, dice.randrange(7, 12)),
            lambda: _drawn(dice, _ALNUM + "!@#%^*", dice.randrange(8, 18)),
            lambda: f"{one.capitalize()}{two.capitalize()}{dice.randrange(2030)}",
            lambda: f"{dice.choice('!@#%')}{one}{two.upper()}{dice.randrange(99)}",
            lambda: f"{_drawn(dice, _ALNUM, 8)}{dice.choice('!?=+')}{_drawn(dice, _ALNUM, 4)}",
        ][dice.randrange(9)]()

    def _given(self, kind: str, name: str, value: str, secret: str) -> Sample:
        path, way = self._dice.choice(self._ways)
        quoted = value.replace('"', "'") if '"§"' in way else value
        text = way.replace("¤", name).replace("§", quoted)
        return Sample(kind=kind, path=path, text=f"{self._around(path)}{text}\n", secret=secret)

    def _around(self, path: str) -> str:
        """A line before, as such a file would have."""
        mark = {"py": "#", "sh": "#", "yaml": "#", "yml": "#", "toml": "#", "tf": "#", "rb": "#", "env": "#"}
        ending = path.rpartition(".")[2]
        if ending in mark:
            return f"{mark[ending]} {self.word()} {self.word()}\n"
        return f"// {self.word()} {self.word()}\n" if ending in _SLASHED else ""


_SLASHED = frozenset({"js", "ts", "go", "java", "kt", "cs", "rs", "swift", "php", "c", "scala"})


def _cut(whole: Sequence[_T], part: Part) -> list[_T]:
    return list(whole[part.value :: 2])


def _drawn(dice: Random, alphabet: str, length: int) -> str:
    return "".join(dice.choices(alphabet, k=length))


def _random_key(dice: Random) -> str:
    size = dice.choice((16, 20, 24, 32, 32, 32, 36, 40, 40, 43, 48, 64, 64))
    return [
        lambda: _drawn(dice, _ALNUM, size),
        lambda: _drawn(dice, _HEX, max(32, size)),
        lambda: _drawn(dice, _SMALL, max(20, size)),
        lambda: base64.b64encode(dice.randbytes(size)).decode(),
        lambda: base64.urlsafe_b64encode(dice.randbytes(size)).decode().rstrip("="),
        lambda: _uuid(dice),
        lambda: dice.choice(("key", "tok", "sk", "live", "api")) + dice.choice("-_.") + _drawn(dice, _ALNUM, size),
        lambda: _drawn(dice, string.ascii_uppercase + string.digits, max(20, size)),
        lambda: _drawn(dice, _ALNUM, size),
    ][dice.randrange(9)]()


def _uuid(dice: Random) -> str:
    text = _drawn(dice, _HEX, 32)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _crc62(prefix: str) -> Callable[[Random], str]:
    def make(dice: Random) -> str:
        body = _drawn(dice, _ALNUM, 30)
        return prefix + body + base62(zlib.crc32(body.encode()), 6).decode()

    return make


def _plain(prefix: str, alphabet: str, length: int, tail: str = "") -> Callable[[Random], str]:
    return lambda dice: prefix + _drawn(dice, alphabet, length) + tail


def _routable(dice: Random) -> str:
    payload = base64.urlsafe_b64encode(
        f"o:{dice.randrange(99)}\nu:{_drawn(dice, _SMALL, 4)}".encode() + dice.randbytes(16)
    )
    head = f"glpat-{payload.decode().rstrip('=')}.01.{_drawn(dice, _SMALL, 2)}"
    return head + base36(zlib.crc32(head.encode())).decode()


def _grafana(dice: Random) -> str:
    head = "glsa_" + _drawn(dice, _ALNUM, 32)
    return f"{head}_{zlib.crc32(head.encode()):08x}"


def _jwt(dice: Random) -> str:
    parts = [
        json.dumps({"alg": "HS256", "typ": "JWT"}).encode(),
        json.dumps({"sub": _drawn(dice, _SMALL, 8), "exp": dice.randrange(10**9, 2 * 10**9)}).encode(),
        dice.randbytes(32),
    ]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _pypi(dice: Random) -> str:
    macaroon = b"\x02\x01\x08pypi.org\x02\x24" + dice.randbytes(80)
    return "pypi-" + base64.urlsafe_b64encode(macaroon).decode().rstrip("=")


_TOKENS: tuple[tuple[str, Callable[[Random], str]], ...] = (
    ("GitHub", _crc62("ghp" + "_")),
    ("GitHub App", _crc62("ghs" + "_")),
    ("npm", _crc62("npm" + "_")),
    ("GitLab", _plain("glpat" + "-", _URL, 20)),
    ("GitLab, routable", _routable),
    ("AWS key id", lambda dice: dice.choice(("AKIA", "ASIA")) + _drawn(dice, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
    (
        "Slack bot",
        lambda dice: (
            f"xoxb-{dice.randrange(10**11, 10**12)}-{dice.randrange(10**12, 10**13)}-{_drawn(dice, _ALNUM, 24)}"
        ),
    ),
    ("Stripe", _plain("sk_" + "live_", _ALNUM, 24)),
    ("Stripe, restricted", _plain("rk_" + "live_", _ALNUM, 99)),
    ("SendGrid", lambda dice: f"SG.{_drawn(dice, _URL, 22)}.{_drawn(dice, _URL, 43)}"),
    ("OpenAI", lambda dice: f"sk-proj-{_drawn(dice, _URL, 58)}T3BlbkFJ{_drawn(dice, _URL, 58)}"),
    ("Anthropic", lambda dice: f"sk-ant-api03-{_drawn(dice, _URL, 93)}AA"),
    ("Google", _plain("AI" + "za", _URL, 35)),
    ("Grafana", _grafana),
    ("Vault", _plain("hvs" + ".", _URL, 90)),
    ("DigitalOcean", _plain("dop_v1_", _HEX, 64)),
    ("Shopify", _plain("shpat_", _HEX, 32)),
    ("Hugging Face", _plain("hf_", string.ascii_letters, 34)),
    ("Doppler", _plain("dp.pt.", _ALNUM, 43)),
    ("Linear", _plain("lin_api_", _ALNUM, 40)),
    ("Databricks", _plain("dapi", _HEX, 32)),
    ("Docker Hub", _plain("dckr_pat_", _URL, 27)),
    ("Postman", lambda dice: f"PMAK-{_drawn(dice, _HEX, 24)}-{_drawn(dice, _HEX, 34)}"),
    ("Telegram", lambda dice: f"{dice.randrange(10**8, 10**10)}:AA{_drawn(dice, _URL, 33)}"),
    ("PyPI", _pypi),
    ("JWT", _jwt),
    ("RubyGems", _plain("rubygems_", _HEX, 48)),
)

_WAYS: tuple[tuple[str, str], ...] = (
    ("app/config.py", '¤ = "§"'),
    ("app/client.py", "¤ = '§'"),
    ("app/db.py", 'connect(host="db", ¤="§")'),
    ("app/env.py", 'os.environ["¤"] = "§"'),
    ("app/model.py", '¤: str = "§"'),
    ("app/conf.py", "settings = {'¤': '§'}"),
    ("src/api.js", 'const ¤ = "§";'),
    ("src/app.ts", "let ¤ = '§';"),
    ("src/conf.js", "  ¤: '§',"),
    ("src/conf.ts", '  "¤": "§",'),
    ("src/main.js", "process.env.¤ = '§'"),
    ("src/a.ts", "this.¤ = '§';"),
    ("cmd/main.go", '¤ := "§"'),
    ("cmd/vars.go", 'var ¤ string = "§"'),
    ("cmd/conf.go", "¤ = `§`"),
    ("src/Main.java", 'String ¤ = "§";'),
    ("src/A.java", 'private static final String ¤ = "§";'),
    ("src/B.java", 'config.put("¤", "§");'),
    ("src/App.kt", 'val ¤ = "§"'),
    ("src/X.scala", 'val ¤: String = "§"'),
    ("src/P.cs", 'string ¤ = "§";'),
    ("src/Q.cs", 'public const string ¤ = "§";'),
    ("src/lib.rs", 'let ¤: &str = "§";'),
    ("src/c.rs", 'const ¤: &str = "§";'),
    ("src/A.swift", 'let ¤ = "§"'),
    ("src/B.swift", 'static let ¤: String = "§"'),
    ("lib/app.rb", 'config[:¤] = "§"'),
    ("lib/b.rb", "¤ = '§'"),
    ("www/index.php", '$¤ = "§";'),
    ("www/conf.php", "'¤' => '§',"),
    ("www/def.php", "define('¤', '§');"),
    ("src/x.c", '#define ¤ "§"'),
    ("src/y.c", 'char ¤[] = "§";'),
    ("lib/x.lua", 'local ¤ = "§"'),
    ("lib/x.pl", "my $¤ = '§';"),
    ("r/x.R", '¤ <- "§"'),
    (".env", "¤=§"),
    ("prod.env", '¤="§"'),
    ("deploy.sh", 'export ¤="§"'),
    ("run.sh", "export ¤=§"),
    ("run.sh", 'deploy --¤ "§"'),
    ("cron.sh", "deploy --¤=§"),
    ("config.yaml", "¤: §"),
    ("conf.yml", '¤: "§"'),
    ("values.yaml", "  ¤: '§'"),
    ("pod.yaml", "- name: ¤\n  value: §"),
    ("job.yaml", '- name: ¤\n  value: "§"'),
    ("compose.yml", "      - ¤=§"),
    ("settings.json", '{"¤": "§"}'),
    ("c.json", '  "¤":"§",'),
    ("app.ini", "¤ = §"),
    ("app.properties", "¤=§"),
    ("x.toml", '¤ = "§"'),
    ("main.tf", 'variable "¤" {\n  default = "§"\n}'),
    ("prod.tfvars", '¤ = "§"'),
    ("web.config", '<add key="¤" value="§" />'),
    ("settings.xml", "<¤>§</¤>"),
    ("Dockerfile", "ENV ¤=§"),
    ("Dockerfile", "ENV ¤ §"),
    ("run.ps1", '$¤ = "§"'),
    ("notes.txt", "¤ is §"),
)
_NAMES = {
    "key": """
        api_key apiKey API_KEY apikey x-api-key secret client_secret clientSecret app_secret SECRET_KEY secretKey
        jwt_secret JWT_SECRET session_secret token auth_token authToken access_token accessToken ACCESS_TOKEN
        refresh_token api_token apiToken bot_token encryption_key ENCRYPTION_KEY private_key signing_key
        signingKey master_key aws_secret_access_key secret_access_key storage_key account_key consumer_secret
        webhook_secret hmac_key service_key license_key vault_token deploy_token
    """,
    "password": """
        password Password PASSWORD passwd pwd db_password dbPassword DB_PASS mysql_pwd root_password admin_pass
        userPassword postgres_password spring.datasource.password smtp_password PGPASSWORD MYSQL_ROOT_PASSWORD
        auth_pass passphrase keystorePassword ldap_bind_password login_password redis.password ftp_password
    """,
}
_SERVICES = """
    adafruit airtable algolia amplitude asana atlassian bitbucket bugsnag clojars cloudflare codecov coinbase
    confluent contentful datadog discord dropbox dynatrace etsy fastly finnhub flickr freshbooks heroku hubspot
    intercom kraken launchdarkly linkedin looker mailchimp mailgun mapbox mattermost netlify okta pagerduty plaid
    planetscale pusher rapidapi sendbird sentry snyk sonar spotify squarespace sumologic telegram travisci trello
    twilio twitch twitter typeform vercel yandex zendesk
"""
_ABOUT = """
    password_file token_url secret_name key_id api_key_path password_length tokenType token_count password_field
    password_hint passwordPlaceholder secretRef existingSecret token_expiry password_policy keyName primary_key
    foreign_key cache_key public_key token_endpoint secret_arn password_label passwordRegex reset_password
    show_password credential_type keyboard tokenizer author_id monkey compass passwordMinLength token_header
    secret_version api_key_name max_tokens
"""
_IDENTIFIERS = """
    sha256 sha1 md5 checksum integrity digest commit revision etag fingerprint version id uuid request_id trace_id
    object_id build image ref resolved hash user_id session_id span_id file_hash source url thumbprint region
    bucket hostname
"""
_WORDS = """
    orchard harbour lantern meadow copper violet thunder pepper summit canyon marble falcon river garden silver
    winter castle dragon forest island jungle kitten ladder mirror needle orange pirate quartz rocket saddle
    temple umbrella valley walnut yellow zebra anchor bridge candle desert engine feather guitar hammer insect
    jacket kernel lemon magnet noodle ocean parcel rabbit sailor ticket velvet whistle basket carpet dinner eagle
    flower glacier honey invoice customer billing report search deploy backup metrics ledger payment account
    service worker gateway handler manager provider factory adapter session request response message channel
    stream buffer cluster region bucket volume image server client window button label
"""

_Decoy = Callable[[Random, Callable[[], str]], str]
_DECOYS: tuple[_Decoy, ...] = (
    lambda d, w: f"${{{w().upper()}}}",
    lambda d, w: f"${w().upper()}",
    lambda d, w: f"${{{w().upper()}_{w().upper()}}}",
    lambda d, w: f"$(cat /run/{w()})",
    lambda d, w: f"{{{{ {w()} }}}}",
    lambda d, w: f"{{{{ .Values.{w()}.{w()} }}}}",
    lambda d, w: f"<your-{w()}>",
    lambda d, w: f"<{w()}>",
    lambda d, w: "your_api_key_here",
    lambda d, w: "YOUR_TOKEN",
    lambda d, w: "x" * d.randrange(6, 24),
    lambda d, w: "*" * d.randrange(6, 16),
    lambda d, w: "changeme",
    lambda d, w: "change-me-please",
    lambda d, w: f"example-{w()}",
    lambda d, w: f"{w()}-example",
    lambda d, w: f"Enter your {w()}",
    lambda d, w: f"Please type the {w()}",
    lambda d, w: "os.environ.get",
    lambda d, w: "process.env",
    lambda d, w: f"vault:secret/data/{w()}#{w()}",
    lambda d, w: f"op://{w()}/{w()}/{w()}",
    lambda d, w: f"ENC[AES256_GCM,data:{_drawn(d, _ALNUM, 12)}]",
    lambda d, w: f"kms:{w()}",
    lambda d, w: f"arn:aws:secretsmanager:us-east-1:{_drawn(d, string.digits, 12)}:secret:{w()}",
    lambda d, w: "true",
    lambda d, w: "null",
    lambda d, w: "None",
    lambda d, w: "string",
    lambda d, w: str(d.randrange(99999)),
    lambda d, w: f"/etc/{w()}/{w()}.key",
    lambda d, w: f"/run/secrets/{w()}",
    lambda d, w: f"https://{w()}.test/{w()}",
    lambda d, w: f"~/.{w()}/{w()}.json",
    lambda d, w: f"req.body.{w()}",
    lambda d, w: f"self.{w()}",
    lambda d, w: "password",
    lambda d, w: "secret",
    lambda d, w: "REDACTED",
    lambda d, w: "[REDACTED]",
    lambda d, w: "TODO",
    lambda d, w: "REPLACE_ME",
    lambda d, w: "my-secret-password",
    lambda d, w: "my_api_key",
    lambda d, w: f"dummy-{w()}",
    lambda d, w: f"fake_{w()}",
    lambda d, w: "A" * 32,
    lambda d, w: "0" * 32,
    lambda d, w: "1234567890abcdef",
    lambda d, w: "00000000-0000-0000-0000-000000000000",
    lambda d, w: "%s",
    lambda d, w: f"%({w()})s",
    lambda d, w: f"{{{w()}}}",
    lambda d, w: f"#{{{w()}}}",
    lambda d, w: f"var.{w()}",
    lambda d, w: f"data.{w()}.{w()}.arn",
    lambda d, w: f"{w().capitalize()}{w().capitalize()}Provider",
    lambda d, w: f"{w()}_{w()}",
    lambda d, w: f"{w()}-{w()}-{w()}",
    lambda d, w: f"{w()}.{w()}.{w()}",
    lambda d, w: f"{w()} {w()} {w()}",
    lambda d, w: f"The {w()} of the {w()}",
    lambda d, w: f"application/{w()}",
    lambda d, w: f"v{d.randrange(9)}.{d.randrange(9)}.{d.randrange(9)}",
    lambda d, w: f"@{w()}/{w()}@",
    lambda d, w: f"{w()}@{w()}.test",
)
_HARMLESS: tuple[_Decoy, ...] = (
    lambda d, w: _drawn(d, _HEX, 40),
    lambda d, w: _drawn(d, _HEX, 64),
    lambda d, w: _drawn(d, _HEX, 32),
    lambda d, w: f"sha256:{_drawn(d, _HEX, 64)}",
    lambda d, w: f"sha512-{base64.b64encode(d.randbytes(64)).decode()}",
    lambda d, w: _uuid(d),
    lambda d, w: f"{w()}-{w()}-{d.randrange(9)}.{d.randrange(99)}.tar.gz",
    lambda d, w: f"https://{w()}.test/{w()}/{w()}/{_drawn(d, _HEX, 10)}",
    lambda d, w: _drawn(d, string.digits, d.randrange(12, 20)),
    lambda d, w: f"h1:{base64.b64encode(d.randbytes(32)).decode()}",
    lambda d, w: f"{w()}-{w()}-{w()}-{d.randrange(99)}",
    lambda d, w: f"{w().upper()}_{w().upper()}_{d.randrange(99)}",
    lambda d, w: f"{w()}{w().capitalize()}{w().capitalize()}{d.randrange(9)}",
    lambda d, w: f"registry.test/{w()}/{w()}@sha256:{_drawn(d, _HEX, 64)}",
    lambda d, w: f"arn:aws:s3:::{w()}-{w()}-{d.randrange(999)}",
    lambda d, w: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{base64.b64encode(d.randbytes(33)).decode()} {w()}@{w()}",
    lambda d, w: f"2026-0{d.randrange(1, 9)}-1{d.randrange(9)}T0{d.randrange(9)}:00:00Z",
    lambda d, w: f"i-0{_drawn(d, _HEX, 16)}",
)


def _of_lock_file(dice: Random, word: Callable[[], str]) -> Sample:
    kind = "decoy: lock file"
    digest = _drawn(dice, _HEX, 64)
    if dice.random() < 0.5:
        return Sample(kind=kind, path="requirements.lock", text=f"{word()}==1.2.3 \\\n    --hash=sha256:{digest}\n")
    integrity = base64.b64encode(dice.randbytes(64)).decode()
    text = json.dumps({"packages": {word(): {"version": "1.2.3", "integrity": f"sha512-{integrity}"}}}, indent=2)
    return Sample(kind=kind, path="package-lock.json", text=text)
