"""Is it a value at all, or the place where one goes? Templates, look-ups, examples, and words that stand for secrets."""

from __future__ import annotations

import re

_TEMPLATE = re.compile(
    rb"\$\{[\w.:\-/?!$ ,\[\]\"']{1,80}\}|^\$\([^)]*\)?|(?:^|[\s:/=@])\$[A-Za-z_]\w*$|\{\{[^{}]{1,80}\}\}|^\{\{|<%[^%]*%?|%\([\w.]+\)[sd]|^%[\w.]+%$|^%[sdvqx]$|^<[^<>]{1,80}>?$|^\[[^\]]{1,60}\]+$|^(?:\\u[0-9a-fA-F]{4}[ .!?]?)+$"
    rb"|^\{[\w.:\-\[\] ]{0,60}\}?$|^@[\w.\-/]+@$|#\{[^}]*\}|^\$\$?\w+\$?$|^__\w+__$|\{[A-Za-z_][\w.\-]{2,40}\}|^\$[\w:.\->\[\]'\"]+$"
    rb"|\xe2\x80\xa6|\{[a-z_]{1,2}\}|\{[A-Za-z_][\w.]{0,40}(?:[(\[][^{}\n]{0,40}[)\]]|[:!][\w<>.]{1,8})+\}"
)
_LOOKUP = re.compile(
    rb"^(?:op://|vault:|arn:|secret://|sm://|ssm:|azurekeyvault|akv://|gcp-sm|keyring:|env[:.]|ENC\[|ENC\(|encrypted:|\$ANSIBLE_VAULT|"
    rb"!vault|!Ref|!Sub|!GetAtt|!ImportValue|\{cipher\}|\{resolve:|ref\+|valueFrom|secretKeyRef|kms:|sops|age-encrypted|file:|"
    rb"AgB[A-Za-z0-9+/]{200}|keychain:|bw://|doppler:|infisical:|projects/[^/]+/secrets/|/run/secrets/|secrets?\.|vars?\.|var\.|local\.|data\.)"
    rb"|os\.environ|os\.getenv|getenv\(|process\.env|System\.getenv|ENV\[|Deno\.env|import\.meta\.env|std::env|env\(|config\(|"
    rb"getpass|input\(|prompt\(|raw_input|secrets\.[A-Za-z_]|settings\.|\.get\(|Secret\.from|keyvault|KeyVault|SecretManager",
)
_EXAMPLE = re.compile(
    rb"example|sample|dummy|placeholder|change[_\-. ]?(?:me|it|this)|replace[_\-. ]?(?:me|with|this)?|insert[_\-. ]?|your[_\-. ]|_your|my[_\-]"
    rb"(?:pass|secret|token|key|api)|(?-i:[Tt]odo|TOD[O])|fixme|redacted|masked|hidden|censored|removed|x{4,}|\*{3,}|\.{3,}|-{5,}|_{4,}|"
    rb"<[a-z_ \-]+>|foo_?bar|foobar|lorem|ipsum|not[_\-. ]?(?:a[_\-. ])?(?:real|secret|valid|used)|(?-i:fake|Fake|FAKE|mock|Mock|MOCK)|invalid|undefined|"
    rb"default[_\-]?(?:pass|secret|token|key)|test[_\-]?(?:pass|secret|token|key|user|value|ing)|some[_\-. ]?(?:pass|secret|token|key|value|random|string)|"
    rb"(?:pass|secret|token|key|value)[_\-. ]?here|goes[_\-. ]?here|the[_\-](?:pass|secret|token|key)|"
    rb"any[_\-]?(?:pass|secret|token|key|value)|enter[_\-. ]|put[_\-. ]|add[_\-. ]your|fill[_\-. ]|secret[_\-]?(?:value|name|string|key)$|"
    rb"^(?:new|old|proxy|repo)[_\-. ]?(?:password|passwd|pwd|pass)$|\.\.\.$|^\W+$|generate[_\-. ]|temporary|obfuscated|sanitized|omitted|\bnone\b",
    re.IGNORECASE,
)
_SEQUENCE = re.compile(rb"abcdef|1234567890|0123456|deadbeef|cafebabe", re.IGNORECASE)
_WORDS = frozenset(
    b"""true false null none nil undefined yes no on off string str bytes byte int integer number bool boolean object array list dict
    any void char text varchar password passwd pass pwd secret token key apikey api_key auth credentials credential user username
    login required optional default value values empty test testing tests admin root guest basic bearer digest oauth oauth2 jwt
    header cookie session query body form json xml yaml email name id uuid hash sha256 sha1 md5 bcrypt plain plaintext hidden
    public private readonly static const let var function def self this new return async await enabled disabled unknown nothing
    something anything changeit never always manual automatic invalid valid correct incorrect wrong missing expired
    pass_through ignore ignored deprecated generated random prompt ask stdin env environ environment vault file path url uri
    host hostname localhost example foo bar baz qux foobar access refresh optionalstring secretstr nullable
    tiger keyword identifier operator literal comment punctuation whitespace newline eof word symbol""".split()
)


def is_template(value: bytes) -> bool:
    """True where `value` names the place from which the secret comes, or is filled in later: never itself a secret."""
    return _TEMPLATE.search(value) is not None or _LOOKUP.search(value) is not None


def is_example(value: bytes) -> bool:
    """True where `value` says of itself that it is none: documentation words, masks, well-known sequences."""
    return says_so(value) or _SEQUENCE.search(value) is not None


def says_so(value: bytes) -> bool:
    """True where `value` says in words, or by a mask, that it is no secret; a sequence of characters may be in one."""
    return _EXAMPLE.search(value) is not None


_VOCABULARY = re.compile(
    rb"(?:(?:my|your|the|an?|some|app|api|auth|access|client|service|user|db|account|sending|sender|master|secret|jwt|ftp|smtp)[ _\-]?){0,4}"
    rb"(?:user(?:name|id)?|pass(?:wo?r?d|phrase|code)?|pwd|token|secret|key|sid|id|port|seed|webhook|login)",
    re.IGNORECASE,
)
"""What a manual writes where the value goes: `ApiPass`, `yourAccessToken`, `mypassword`."""

_LONGEST = 40


def is_plain_word(value: bytes) -> bool:
    """True where `value` is a word that code or a manual puts beside such names: a type, a literal, the name itself."""
    return value.lower().strip(b"_-.:;,!?") in _WORDS or (
        len(value) <= _LONGEST and _VOCABULARY.fullmatch(value) is not None
    )


_PATTERN = re.compile(
    rb"\[[^\]\n]{2,}\](?:[+*?]|\{\d)|\(\?[:=!<P]|\\[dwsbAZz](?:[+*?{]|\b)|A-Za-z|a-zA-Z|A-Z0-9|a-z0-9|0-9a-f|0-9A-F|\[\^[^\]\n]{1,40}\]|\[[a-z]-[a-z]\]"
    rb"|^\[?\w{2,8}(?:\[[a-z]{2,6}\][\w\-]*)+$"
)
_ULID = rb"0[01][0-9A-HJKMNP-TV-Z]{24}"
_IDENTIFIER = re.compile(
    rb"(?:[a-z][a-z0-9]{0,15}[_\-]){1,3}(?:" + _ULID + rb"|0[01][0-9a-hjkmnp-tv-z]{24})"
    rb"|(?:AROA|ANPA|AIDA|AGPA|AIPA|ANVA|APKA|ASCA|ACCA|ABIA)[A-Z0-9]{16,17}"
    rb"|(?:ami|i|r|vol|snap|subnet|vpc|vpce|sg|sgr|eni|rtb|rtbassoc|igw|nat|vgw|cgw|tgw|acl|lt|pcx|dopt|eipalloc|eipassoc|fs|fsap|fl)"
    rb"-[0-9a-f]{8}(?:[0-9a-f]{9})?"
)
_OF_CODE = re.compile(
    rb"(?:\\x[0-9a-fA-F]{2}|\\[nrt0])+"
    rb"|[\w.\-]{1,40}:[x*!]{0,2}:\d{1,10}:\d{1,10}:.*|(?:Apache|[AL]?GPL|MPL|EPL|BSD)-\d(?:\.\d)?(?:-\w+)*"
    rb"|\d?\*\(?[A-Za-z][A-Za-z\-]*|(?:RFC|ISO|CVE|PEP|BCP|STD)[-_ ]?\d{1,6}(?:-\d+)?|0x[0-9a-fA-F]{1,8}\*\d+"
    rb"|[A-Za-z_]\w*\[-?\d*\](?:\.\w+)*|[a-z_]\w*=[\"'][^\"']*[\"']?"
    rb"|\d{1,5}/(?:tcp|udp|sctp|dccp)|/(?:usr|etc|var|opt|bin|sbin|lib|home|run|srv|tmp)/[\w./\-]{1,200}",
    re.DOTALL,
)
"""Bytes that are escaped, a line of `/etc/passwd`, a licence, a grammar, a standard, an element of a list, a port, a file."""
_ARGUMENT = re.compile(rb"[A-Za-z_]\w{0,40}=(?:-?\d{1,12}(?:\.\d{1,6})?|[A-Z_.]{2,}|[Tt]rue|[Ff]alse|[Nn]one|null)")
_EXPRESSION = re.compile(rb"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[\w+\])*(?:\.(?:[a-z]\w*)|\[\w+\])[,)]*")
_ENDS_AS_CODE = re.compile(rb"[,)\]]$|\.(?:\w*_)?(?:password|passwd|pwd|secret|token|key|value|user)$", re.IGNORECASE)
_MECHANISM = re.compile(
    rb"(?:scram-sha-(?:1|256)|md5|sha(?:256|512)_password|caching_sha2_password|\w+_native_password|client_ed25519"
    rb"|tls_client_auth|self_signed_tls_client_auth|client_secret_(?:basic|post|jwt)|private_key_jwt|spiffe_\w+)",
    re.IGNORECASE,
)
_SETTING = re.compile(
    rb"(?:password_(?:encryption|authentication|policy|hash\w*)|(?:proxy|fastcgi|uwsgi|scgi|grpc)_pass)\W*",
    re.IGNORECASE,
)


def is_pattern(value: bytes) -> bool:
    """Whether the value is a regular expression: what looks for secrets is none."""
    return _PATTERN.search(value) is not None


def is_mechanism(name: bytes, value: bytes) -> bool:
    """Whether the value names a way to sign in, or the name is that of a setting which only sounds like a secret."""
    return _MECHANISM.fullmatch(value) is not None or _SETTING.fullmatch(name.strip()) is not None


def is_identifier(value: bytes) -> bool:
    """Whether the value is an id behind a prefix that says of what (a ULID, a resource of AWS): it proves nothing."""
    return _IDENTIFIER.fullmatch(value) is not None


def is_syntax(value: bytes, operator: bytes) -> bool:
    """Whether the value is a piece of code, of a list of accounts or of a licence, whatever name stands before it."""
    argument = operator.strip() in (b",", b"(") and _ARGUMENT.fullmatch(value) is not None
    return argument or _OF_CODE.fullmatch(value) is not None


def is_member(value: bytes) -> bool:
    """Whether a value without quotes is the member of something, as arguments of a call hand it on."""
    return _EXPRESSION.fullmatch(value) is not None and _ENDS_AS_CODE.search(value) is not None
