"""How likely is a value given to a name a secret? A logistic model over what stands there; never a silent drop."""

from __future__ import annotations

import math
import re

from remit.inventory.secrets.engine import placeholders
from remit.inventory.secrets.engine.assignment import Candidate
from remit.inventory.secrets.engine.coefficients import BIAS, WEIGHTS
from remit.inventory.secrets.engine.habits import lift
from remit.inventory.secrets.engine.language import RANDOM_FROM, likeness
from remit.inventory.secrets.engine.places import Role
from remit.inventory.secrets.engine.providers import names_a_service
from remit.inventory.secrets.engine.values import Shape, shape

_PASSWORD = re.compile(rb"pass|pwd|contrasen|pin|otp|cred", re.IGNORECASE)
_TOKEN = re.compile(rb"token|bearer|auth|pat\b|session", re.IGNORECASE)
_KEY = re.compile(rb"key|secret|salt|nonce|sign|hmac|cipher", re.IGNORECASE)
_ABOUT = re.compile(
    rb"(?:file|path|url|uri|name|type|len(?:gth)?|size|field|regex|pattern|label|policy|count|expir\w*|ttl|prompt|header|column|"
    rb"param\w*|endpoint|hint|format|min|max|text|message|msg|error|err|required|enabled|disabled|valid\w*|reset|forgot\w*|"
    rb"change\w*|confirm\w*|title|description|desc|help|info|status|state|mode|algorithm|algo|version|date|time\w*|index|idx|"
    rb"class|input|output|element|selector|button|page|link|route|view|template|prefix|suffix|provider|manager|service|store|"
    rb"storage|handler|factory|helper|util\w*|generator|encoder|strength|ref|source|env|var|arg|option|flag|id|ids|kind|fn|func|"
    rb"callback|event|action|limit|usage|budget|limits|address|addr|location|dir|directory|alias|user|username)$",
    re.IGNORECASE,
)
_PUBLIC = re.compile(
    rb"public|pub[-_]?key|fingerprint|checksum|integrity|digest|sha\d|md5|hash|commit|revision|rev\b|etag|uuid|guid|version|"
    rb"thumbprint|serial|nonce|csrf|cache[-_]?key|primary[-_]?key|foreign[-_]?key|partition[-_]?key|sort[-_]?key|keyboard|"
    rb"keyword|keycode|resolved|signature|build|image|blob|tree|parent|ref|url|path|file|name|license|bundle|digest|"
    rb"author|compass|bypass|passed|passing|passive|passenger|passport|tokenize|monkey|turkey|secretary|object|node|trace|span",
    re.IGNORECASE,
)
_CALL = re.compile(rb"[\w\].>]\($|^[\w.]+\(|\)\s*$|\w\.\w+\(|=>|&&|\|\||\s[+?]\s|;$|::\w")
_PROSE = re.compile(rb"(?<![A-Za-z'])[A-Za-z']{2,}[ ,][A-Za-z']{2,}[ ,.!?]|\b\w+ \w+ \w+|^\W*\w+ \w+\W*$")
_PATH = re.compile(
    rb"^(?:\.{0,2}/|~/|[A-Za-z]:\\|[a-z]+://|www\.)|\.(?:json|ya?ml|txt|pem|key|crt|py|js|ts|go|html?|css|png|svg|md|xml|toml|conf|cfg|ini|sh|log|lock|java|rb)$|^[\w.\-]+(?:/[\w.\-]+){2,}$"
)
_HASH_LENGTH = frozenset({32, 40, 56, 64, 96, 128})
_HASH_NEAR = re.compile(
    rb"sha(?:1|224|256|384|512)?[-:=_ \"']|md5|integrity|uses:|@$|commit|checksum|digest|rev(?:ision)?\b|h1:",
    re.IGNORECASE,
)


def confidence(candidate: Candidate, role: Role) -> int:
    """0–100 for the value of `candidate` in a file of `role`."""
    lifted = lift(candidate)
    if lifted < _SURE and is_hopeless(candidate):
        return 0
    total = BIAS + lifted
    for name in features(candidate, role):
        total += WEIGHTS.get(name, 0.0)
    return round(100 / (1 + math.exp(-max(-30.0, min(30.0, total)))))


def is_hopeless(candidate: Candidate) -> bool:
    """True where a glance is enough: words in a row, or under a name that asks for no word. Most candidates are such."""
    value = candidate.value
    if not candidate.strong:
        if _HEX_OR_UUID.fullmatch(value) is None and likeness(value) < RANDOM_FROM:
            return True
        return _ARN.search(candidate.before + candidate.name) is not None
    if _OF_CODE.fullmatch(value) is not None:
        return True
    if _METHOD.search(candidate.name) is None and _PASSWORD.search(candidate.name) is not None:
        return False
    if _LETTERS.fullmatch(value) is not None:
        return len(value) < 16 or likeness(value) < RANDOM_FROM
    return len(value) >= 12 and likeness(value) < _WORDS_TO and _HEX_OR_UUID.fullmatch(value) is None


_SURE = 4.0
"""Log-odds of a habit that no look at letter pairs outweighs."""
_WORDS_TO = 4.5
"""Of random characters next to none has less (at twelve characters), of words with a number behind them most."""
_ARN = re.compile(rb"arn:[\w\-]+:[\w:/\-]*$")
_METHOD = re.compile(
    rb"\.(?:encode|decode|get|split|join|replace|format|strip|match|test|search|startswith|endswith|includes)$"
)
_OF_CODE = re.compile(
    rb"utf-?(?:8|16|32)(?:[-_]?[bl]e)?(?:-sig)?|us-ascii|ascii|latin-?1|(?:iso|windows)[-_]?\d{3,4}(?:-\d+)?|base64(?:url)?|"
    rb"http/\d(?:\.\d)?|#[0-9a-f]{3,8}|aws4_request|\w+_(?:password|passwd|secret|token|key)\d?|"
    rb"(?:(?:rsa|ecc|ecdsa|eddsa|dsa|aes|sha|hmac|sm|des|pbkdf|nist|curve|secp|prime|argon|cbc|gcm|ctr|pss|oaep|kw|dh|ed|hs|rs|es|ps|a|p|x)"
    rb"[-_/]?|(?:1|2|3|160|128|192|224|256|384|512|521|1024|2048|3072|4096|8192|25519|448)(?:[rk]1|v1)?[-_/]?){2,8}",
    re.IGNORECASE,
)
"""Names of encodings, algorithms, colours and parameters."""
_HEX_OR_UUID = re.compile(rb"[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LETTERS = re.compile(rb"[A-Za-z_.\- ]+")


def features(candidate: Candidate, role: Role) -> list[str]:
    """The names of what holds for `candidate`: the model's inputs, each 0 or 1."""
    value, measured = candidate.value, shape(candidate.value)
    out = [f"role:{role.value}"]
    out += _of_name(candidate)
    out += _of_syntax(candidate)
    out += _of_value(value, measured)
    out += _of_both(candidate, measured)
    return out


def _of_name(candidate: Candidate) -> list[str]:
    name = candidate.name
    kind = "none"
    if candidate.strong:
        kind = "password" if _PASSWORD.search(name) else "token" if _TOKEN.search(name) else "key"
    elif _KEY.search(name) or _TOKEN.search(name):
        kind = "weak"
    elif name:
        kind = "other"
    out = [f"name:{kind}"]
    if names_a_service(candidate.before[-40:] + name) or (kind == "weak" and names_a_service(candidate.above)):
        out.append(f"service:{kind}")
    if _ABOUT.search(name):
        out.append("name:about")
    if _PUBLIC.search(name):
        out.append("name:public")
    if name.isupper():
        out.append("name:upper")
    if _HASH_NEAR.search(candidate.before + name + candidate.operator):
        out.append("near:hash")
    return out


def _of_syntax(candidate: Candidate) -> list[str]:
    operator = candidate.operator.strip().decode("latin-1") or "blank"
    out = [f"op:{operator if operator in _OPERATORS else 'other'}", "quoted" if candidate.quote else "bare"]
    after = candidate.after.lstrip()
    if not candidate.quote and after[:1] in (b"(", b"[", b"{"):
        out.append("bare:called")
    if candidate.quote and after[:1] in (b":", b"="):
        out.append("after:colon")
    if candidate.quote and after[:1] in (b"+", b"%", b"."):
        out.append("after:joined")
    return out


_OPERATORS = frozenset(
    {"=", ":", ":=", "=>", "==", "===", "!=", "!==", "(", ",", ">", "blank", "<-", "->", "?=", "+=", "|"}
)


def _of_value(value: bytes, measured: Shape) -> list[str]:
    length = measured.length
    out = [f"len:{next((top for top in (3, 5, 7, 11, 15, 19, 23, 31, 39, 63, 127, 256) if length <= top), 256)}"]
    out.append(f"words:{min(9, max(2, int(measured.words)))}")
    out.append(f"entropy:{int(measured.entropy * 2)}")
    if placeholders.is_template(value):
        out.append("template")
    if placeholders.is_example(value):
        out.append("example")
    if placeholders.is_plain_word(value):
        out.append("plain-word")
    classes = (measured.lower > 0) + (measured.upper > 0) + (measured.digits > 0) + (measured.others > 0)
    out.append(f"classes:{classes}")
    if measured.sequence * 3 >= length:
        out.append("sequence")
    out += [
        name
        for name, holds in (
            ("hex", measured.is_hex),
            ("uuid", measured.is_uuid),
            ("number", measured.is_number),
            ("identifier", measured.is_identifier),
            ("no-digit", measured.digits == 0),
            ("hash-length", measured.is_hex and length in _HASH_LENGTH),
            ("base64", measured.is_base64 and length >= 16),
            ("call", _CALL.search(value) is not None),
            ("prose", _PROSE.search(value) is not None),
            ("space", b" " in value.strip()),
            ("path", _PATH.search(value) is not None),
            ("dotted", value.count(b".") >= 2),
            ("few-distinct", (measured.distinct * 4 <= length and length >= 8) or measured.distinct <= 3),
            ("mixed", measured.switches * 3 >= length and measured.digits > 0),
        )
        if holds
    ]
    return out


def _of_both(candidate: Candidate, measured: Shape) -> list[str]:
    value = candidate.value.lower().strip()
    squeezed = re.sub(rb"[^a-z0-9]", b"", value)
    name = re.sub(rb"[^a-z0-9]", b"", candidate.name.lower())
    out: list[str] = []
    if squeezed and (squeezed in name or (name and name in squeezed and len(squeezed) < len(name) + 10)):
        out.append("value-is-name")
    style = "quoted" if candidate.quote else "bare"
    kind = "id" if measured.is_identifier else "text"
    digits = "digit" if measured.digits else "nodigit"
    out.append(f"x:{style}:{kind}:{digits}:{'strong' if candidate.strong else 'weak'}")
    out.append(
        f"y:{'strong' if candidate.strong else 'weak'}:words{min(8, max(3, int(measured.words)))}:{'long' if measured.length >= 16 else 'short'}"
    )
    return out
