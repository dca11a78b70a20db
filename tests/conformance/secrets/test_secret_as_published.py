"""The kinds of examples by which scanners of secrets are judged in public, made anew at run time.

Provenance: nothing is copied. The forms are written down from what public collections are known to hold: detectors that
are tried with a service's name beside a random value, values in which one character does not fit, repositories of files
that leak on purpose, labelled lines of open-source repositories with look-ups, forms, selectors and checksums among
them. Every value is drawn by a seeded generator.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Iterator

import pytest

from remit.inventory.secrets.engine import Engine, make_engine
from remit.inventory.secrets.model import Blob

ALNUM = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase + string.digits
HEX = "0123456789abcdef"
MARKS = "!@#$%^&*()-_[]{}<>~+=,.;:?|"

SERVICES = (
    "airvisual", "amadeus", "appcues", "boostnote", "checkvist", "codacy", "databox", "dailyco", "etherscan", "finnhub",
    "geoapify", "kucoin", "newsapi", "shodan",
)  # fmt: skip
AS_DETECTORS_ARE_TRIED = (
    "{service} token = '{value}'",
    "{service}_token = '{value}'",
    '{service}Key := "{value}"',
    '  api:\n    {service}_key: "{value}"\n    response_code: 200',
    "[INFO] Sending request to the {service} API\n[DEBUG] Using Key={value}\n[INFO] Response received: 200 OK",
    "<id>{service}</id>\n<secret>{{AQAAABAAA {value}}}</secret>",
)
LEAKS = (
    # path, text with § for the value, alphabet, length
    ("filezilla/sites.xml", "<User>bob</User><Pass>§</Pass>", ALNUM, 12),
    ("filezilla/recent.xml", '<User>bob</User><Pass encoding="base64">§</Pass>', ALNUM, 16),
    ("Info.plist", "<dict><key>apiKey</key>\n<string>§</string></dict>", LOWER, 24),
    ("config/master.key", "§\n", HEX, 32),
    ("ansible/.vault_pass", "§\n", ALNUM, 18),
    ("secrets/db_password.txt", "§", ALNUM, 14),
    ("wp-config.php", "define('NONCE_SALT', '§');", ALNUM + MARKS, 64),
    ("login.js", "var app = {clientId: 'x', clientSecret: '§'};", "123456789", 19),
    ("login.py", "if password == '§':", LOWER, 12),
    ("Login.java", 'if ("§".equals(password)) {', LOWER, 14),
    ("login.py", "if '§' == my_password:", LOWER, 14),
    ("main.c", 'char password[25] = "§";', ALNUM, 14),
    ("main.cpp", 'password->assign("§");', ALNUM, 14),
    ("access.log", "GET /login?next=%2F&form=user%3Dbob%26password%3D§", ALNUM, 14),
    ("app.ts", 'private readonly password: string = "§";', string.ascii_letters, 16),
    ("app.log", "$aact_prod_§", ALNUM, 60),
    ("people.csv", "name,user,password\nanna,ann,§\n", LOWER, 12),
    ("people.csv", "user,password,mail\nann,§,a@b.io\n", LOWER, 12),
    ("beans.xml", '<property name="dbPassword"><value>§</value></property>', LOWER, 12),
    ("client.ovpn", "<auth-user-pass>\nann\n§\n</auth-user-pass>", LOWER, 12),
    ("find.sh", "ldapsearch -D cn=admin -w § -b dc=x", LOWER, 12),
    ("make.sh", "htpasswd -bc users ann §", LOWER, 12),
    ("login.robot", "Input Password    id=pw    §", LOWER, 12),
    ("Store.java", 'keyStore.load(stream, "§".toCharArray());', LOWER, 14),
    ("hardhat.config.js", 'accounts: ["0x§"]', HEX, 64),
    ("app.py", 'AES.new(b"§", AES.MODE_CBC)', LOWER, 16),
    ("app.js", 'crypto.createHmac("sha256", "§")', LOWER, 24),
    ("app.py", 'pika.PlainCredentials("ann", "§")', LOWER, 14),
    ("app.py", 'smtp.login(USER, "§")', LOWER, 14),
    ("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  word: §==\n", ALNUM, 22),
    ("baidu.env", "BAIDU=bce-v3/ALTAK-§/" + "a7" * 20, ALNUM, 21),
)
NO_SECRETS = (
    'password: "required|string|min:8|max:255"',
    'passwd = "#password-field-1"',
    'credentials = ".form-credentials__input--v2"',
    'PREF_PASSWORD = "pref_password_v2"',
    "<PublicKeyToken>{hex16}</PublicKeyToken>",
    '<assembly publicKeyToken="{hex16}" />',
    '"next_page_token": "{random40}"',
    '"NextContinuationToken": "{random40}=="',
    '"cursor": "{random40}=="',
    '<meta name="google-site-verification" content="{random40}">',
    'secret = "{upper}EXAMPLE"',
    "a keyword that stands far from the value\n = '{random40}'",
    "postgres://postgres:postgres@localhost/test",
    "ftp://anonymous:anonymous@ftp.mirror.io",
    "twilio://AccountSid:AuthToken@FromPhoneNo",
    "mailto://myuser:mypassword@mail.io",
    "#     token          = 1*tchar",
    "('1.3.6', 'ATTRIBUTE_TYPE', 'userPassword', 'RFC4519'),",
    '"output_token": "Jobs[-1].JobId",',
    '"V1Secret": ".v1_secret",',
    '__author__ = "joke2k"',
    "oauth_signature='{random40}'",
    "![badge](https://codecov.io/gh/a/b/graph/badge.svg?token={random40})",
    'a string like "AROA{upper}"',
    '"alias/aws/ssm": "{uuid}",',
    "xoxb-your-slack-token",
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine()


def _sure(engine: Engine, path: str, text: str) -> list[str]:
    hits = engine.scan(Blob(path=path, data=text.encode()))
    return [hit.value.decode() for hit in hits if hit.confidence >= 50]


def _drawn(dice: random.Random, alphabet: str, length: int) -> str:
    return "".join(dice.choice(alphabet) for _ in range(length))


def _of_services(dice: random.Random) -> Iterator[tuple[str, str]]:
    for service in SERVICES:
        for form in AS_DETECTORS_ARE_TRIED:
            value = _drawn(dice, dice.choice((ALNUM, LOWER)), dice.choice((20, 24, 32, 40)))
            yield form.format(service=service, value=value), value


def test_values_beside_a_service_are_found_in_nine_of_ten_forms(engine: Engine) -> None:
    cases = list(_of_services(random.Random(11)))
    lost = [text for text, value in cases if not any(value in found for found in _sure(engine, "a.txt", text))]
    assert len(lost) <= len(cases) // 10, lost


def test_values_that_do_not_fit_are_left_alone(engine: Engine) -> None:
    dice = random.Random(12)
    texts = []
    for service in SERVICES:
        value = _drawn(dice, LOWER, 32)
        at = dice.randrange(8, 24)
        texts.append(f"{service} = '{value[:at]}{dice.choice('?^%#')}{value[at:]}'")
    assert [text for text in texts if _sure(engine, "a.txt", text)] == []


@pytest.mark.parametrize(("path", "text", "alphabet", "length"), LEAKS, ids=[text[:30] for _, text, _, _ in LEAKS])
def test_what_leaks_on_purpose_is_found(engine: Engine, path: str, text: str, alphabet: str, length: int) -> None:
    value = _drawn(random.Random(f"leak {text}"), alphabet, length)
    assert any(value in found or found in value for found in _sure(engine, path, text.replace("§", value)))


@pytest.mark.parametrize("text", NO_SECRETS, ids=[text[:30] for text in NO_SECRETS])
@pytest.mark.parametrize("path", ["a.txt", "src/config.yaml", "src/app.py"])
def test_what_only_looks_so_is_left_alone(engine: Engine, path: str, text: str) -> None:
    dice = random.Random(f"none {text}")
    whole = _drawn(dice, HEX, 32)
    drawn = {
        "hex16": whole[:16],
        "random40": base64.b64encode(dice.randbytes(30)).decode(),
        "upper": _drawn(dice, string.ascii_uppercase + string.digits, 17),
        "uuid": "-".join((whole[:8], whole[8:12], whole[12:16], whole[16:20], whole[20:])),
    }
    for name, value in drawn.items():
        text = text.replace("{" + name + "}", value)
    assert _sure(engine, path, text) == []
