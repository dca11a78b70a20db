"""Is this text a secret? By its name, its shape, and what it plainly is not: a reference, template or placeholder."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from remit.inventory.model import Attribute, CredentialKind

_REFERENCE = re.compile(
    r"""\$\{\{[^{}]*\}\}|\$\{[^}]*\}|\$\([^)]*\)|\$[A-Za-z_]\w*|\{\{.*\}\}|<[^<>]*>|%[A-Za-z_]\w*%|%\([^)]*\)s|__\w+__|\[[^\]]*\]
    |(?:vault|op|ssm|aws-sm|gcpsm|gcp-sm|secretref|keyring|keychain|azurekeyvault|bws|doppler|file|env|ref\+\w+|sm|secret):.*
    |@Microsoft\.KeyVault.*|ENC\[.*|ENC\(.*|\$ANSIBLE_VAULT.*|arn:aws[\w-]*:(?:secretsmanager|ssm|kms):.*
    |projects/[^/]+/secrets/.*|/run/secrets/.*|AgE[A-Za-z0-9+/=]{100,}|process\.env\.\w+|os\.environ.*
    |\*+|\.+|-+|x+|X+|0+|(?:pragma|todo|tbd|fixme).*""",
    re.VERBOSE | re.DOTALL,
)
_PLACEHOLDER = re.compile(
    r"(?:change|replace|update|set|fill|insert|enter|put|add)[-_ .]?(?:me|this|it|in|here|your)\b.*|change_?it|"
    r"(?:my|your|the|some|any|enter|insert)[-_ ].*|"
    r".*(?:placeholder|redacted|changeme|change_me|replaceme|example\.(?:com|org)).*|"
    r"(?:none|null|nil|true|false|yes|no|on|off|undefined|empty|dummy|example|sample|default|optional|required|unset|n/a|na|todo|"
    r"password_here|token_here|secret_here|api_key_here|foo|bar|baz|foobar|xxx+.*)|.*_here|\*{3,}.*|.*x{6,}.*|.*EXAMPLE(?:KEY)?",
    re.IGNORECASE | re.DOTALL,
)


def is_placeholder(value: str) -> bool:
    """True of what is no secret itself: empty, a template, a reference to a manager or a file, a documentation key."""
    value = value.strip()
    if len(value) < 3 or len(value) > 100_000:
        return True
    if len(value) > 512:
        return value.startswith(("$ANSIBLE_VAULT", "ENC[", "AgE"))
    return _REFERENCE.fullmatch(value) is not None or _PLACEHOLDER.fullmatch(value) is not None


_SECRET_WORD = re.compile(
    r"pass(?:word|wd|phrase|wrd)?$|pwd$|secret|token|api_?key|access_?key|private_?key|auth_?key|signing_?key|encryption_?key|"
    r"master_?key|secret_?key|account_?key|shared_?key|service_?key|deploy_?key|session_?key|license_?key|^key$|_key$|"
    r"credentials?$|_auth$|^auth$|authorization|webhook|connection_?string|_dsn$|^dsn$|_pat$|passw|bearer|cookie$|_salt$|jwt$"
)
_NOT_SECRET_WORD = re.compile(
    r"(?:_|^)(?:file|path|dir|name|names|user|username|host|hostname|port|ttl|expiry|expires?|expiration|timeout|length|size|policy|"
    r"enabled?|disabled?|type|id|url|uri|endpoint|prefix|suffix|header|count|limit|max|min|version|algorithm|region|mode|"
    r"method|provider|issuer|audience|scope|scopes|arn|format|field|regex|pattern|required|strategy|class|env|location|label|"
    r"duration|age|days|hours|minutes|seconds|bucket|store|manager|backend|encoding|hint)$|^public|_public_|public_?key|publishable|"
    r"primary_key|foreign_key|cache_key|sort_key|partition_key|_keyring|passenger|passive|compass|bypass|tokeni[sz]er|authors?$|"
    r"max_?tokens|token_limit|tokens$|secretless|keyboard|hot_?key|key_?code"
)


def is_secret_name(name: str) -> bool:
    """True when a setting of this name usually holds a secret."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[-120:]).lower().replace("-", "_").replace(".", "_")
    return _SECRET_WORD.search(plain) is not None and _NOT_SECRET_WORD.search(plain) is None


def kind_of_name(name: str) -> CredentialKind:
    """What sort of credential a setting of this name holds."""
    plain = name.lower()
    if "pass" in plain or "pwd" in plain:
        return CredentialKind.PASSWORD
    if "token" in plain or "bearer" in plain or "jwt" in plain or plain.endswith("_pat"):
        return CredentialKind.TOKEN
    return CredentialKind.API_KEY if "key" in plain and "secret" not in plain else CredentialKind.SECRET


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What the shape of a value alone tells of it, without asking its issuer."""

    provider: str
    kind: CredentialKind
    what: str
    """For a person: `GitHub fine-grained token`."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    subject: tuple[str, str, str, str] | None = None
    """System, instance, kind and local name of the identity that it proves, where the value says so."""
    expires: datetime | None = None
    issued: datetime | None = None


_SHAPES: tuple[tuple[str, str, CredentialKind, str], ...] = (
    (r"gh[pousr]_[A-Za-z0-9]{36,251}", "github", CredentialKind.TOKEN, "GitHub token"),
    (r"github_pat_[A-Za-z0-9_]{60,250}", "github", CredentialKind.TOKEN, "GitHub fine-grained token"),
    (r"gl(?:pat|dt|rt|ptt|cbt|soat|ft|imt|agent|ffct)-[\w.-]{20,300}", "gitlab", CredentialKind.TOKEN, "GitLab token"),
    (r"xox[abeoprs]-[A-Za-z0-9-]{10,250}", "slack", CredentialKind.TOKEN, "Slack token"),
    (r"xapp-\d-[A-Z0-9]+-\d+-[a-f0-9]+", "slack", CredentialKind.TOKEN, "Slack app token"),
    (r"https://hooks\.slack\.com/services/\S{20,}", "slack", CredentialKind.SECRET, "Slack webhook"),
    (r"sk-ant-(?:api|admin|oat)\d\d-[\w-]{20,200}", "anthropic", CredentialKind.API_KEY, "Anthropic key"),
    (r"sk-(?:proj|svcacct|admin)-[\w-]{20,250}", "openai", CredentialKind.API_KEY, "OpenAI key"),
    (r"sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}", "openai", CredentialKind.API_KEY, "OpenAI key"),
    (r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,200}", "stripe", CredentialKind.API_KEY, "Stripe key"),
    (r"npm_[A-Za-z0-9]{36}", "npm", CredentialKind.TOKEN, "npm token"),
    (r"pypi-[\w-]{50,}", "pypi", CredentialKind.TOKEN, "PyPI token"),
    (r"SG\.[\w-]{16,32}\.[\w-]{30,64}", "sendgrid", CredentialKind.API_KEY, "SendGrid key"),
    (r"hv[sbr]\.[\w-]{20,200}", "vault", CredentialKind.TOKEN, "Vault token"),
    (r"do[opr]_v1_[a-f0-9]{64}", "digitalocean", CredentialKind.TOKEN, "DigitalOcean token"),
    (r"AIza[\w-]{35}", "google", CredentialKind.API_KEY, "Google API key"),
    (r"GOCSPX-[\w-]{28}", "google", CredentialKind.SECRET, "Google OAuth client secret"),
    (r"hf_[A-Za-z0-9]{30,}", "huggingface", CredentialKind.TOKEN, "Hugging Face token"),
    (r"gls?a_[A-Za-z0-9]{32}_[a-f0-9]{8}", "grafana", CredentialKind.TOKEN, "Grafana service-account token"),
    (r"dckr_(?:pat|oat)_[\w-]{20,}", "docker", CredentialKind.TOKEN, "Docker Hub token"),
    (r"tskey-[a-z]+-[\w-]{10,}", "tailscale", CredentialKind.TOKEN, "Tailscale key"),
    (r"dp\.[a-z]{2,6}\.[\w.-]{30,}", "doppler", CredentialKind.TOKEN, "Doppler token"),
    (r"ops_eyJ[\w-]{50,}", "1password", CredentialKind.TOKEN, "1Password service-account token"),
    (r"sntry[su]_[\w=-]{30,}", "sentry", CredentialKind.TOKEN, "Sentry token"),
    (r"ATATT3[\w=-]{50,}", "atlassian", CredentialKind.TOKEN, "Atlassian token"),
    (r"ATBB[A-Za-z0-9]{24,}[A-F0-9]{8}", "atlassian", CredentialKind.TOKEN, "Bitbucket app password"),
    (r"pul-[a-f0-9]{40}", "pulumi", CredentialKind.TOKEN, "Pulumi token"),
    (r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", "shopify", CredentialKind.TOKEN, "Shopify token"),
    (r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{40,}", "terraform", CredentialKind.TOKEN, "HCP Terraform token"),
    (r"\d{8,10}:AA[\w-]{33}", "telegram", CredentialKind.TOKEN, "Telegram bot token"),
    (r"AGE-SECRET-KEY-1[A-Z0-9]{58}", "age", CredentialKind.PRIVATE_KEY, "age private key"),
    (r"A(?:KIA|SIA)[A-Z2-7]{16}", "aws", CredentialKind.ACCESS_KEY, "AWS access key id"),
    (r"ABSK[A-Za-z0-9+/=]{100,}", "aws", CredentialKind.API_KEY, "Amazon Bedrock key"),
    (r"eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]{0,2000}", "jwt", CredentialKind.TOKEN, "JSON Web Token"),
)
_ANY_SHAPE = re.compile("|".join(f"(?P<s{index}>{shape[0]})" for index, shape in enumerate(_SHAPES)))


def recognise(value: str) -> Recognised | None:
    """Say what a whole value is by its published form, with the identity it carries in clear; `None` if unknown."""
    if len(value) > 10_000:
        return None
    found = _ANY_SHAPE.fullmatch(value)
    if not found or not found.lastgroup:
        return None
    _, provider, kind, what = _SHAPES[int(found.lastgroup[1:])]
    plain = Recognised(provider=provider, kind=kind, what=what)
    match provider:
        case "jwt":
            return _jwt(value) or plain
        case "aws" if kind is CredentialKind.ACCESS_KEY:
            account = aws_account(value)
            temporary = value.startswith("ASIA")
            known: dict[str, Attribute] = {"access_key_id": value, "temporary": temporary}
            return Recognised(
                provider="aws", kind=kind, what=what, attributes=known | ({"account": account} if account else {})
            )
        case "github" | "npm":
            checked = {"checksum": "pass" if has_valid_checksum(value) else "fail"} if "_pat_" not in value else {}
            return Recognised(provider=provider, kind=kind, what=what, attributes={"class": value[:4], **checked})
        case "slack" if value.startswith("xoxb-"):
            team, bot = [*value.split("-"), "", ""][1:3]
            return Recognised(
                provider="slack", kind=kind, what="Slack bot token", subject=("slack", team, "bot", bot or team)
            )
        case "telegram":
            return Recognised(
                provider=provider,
                kind=kind,
                what=what,
                subject=("telegram", "telegram.org", "bot", value.split(":")[0]),
            )
        case "stripe":
            return Recognised(provider=provider, kind=kind, what=what, attributes={"mode": value.split("_")[1]})
    return plain


def aws_account(key_id: str) -> str | None:
    """The account to which an AWS key id belongs; `None` of an older id, which does not carry it."""
    if len(key_id) != 20 or key_id[4] not in "QRSTUVWXYZ234567":
        return None
    try:
        number = int.from_bytes(base64.b32decode(key_id[4:])[:6], "big")
    except ValueError:
        return None
    return f"{(number & 0x7FFFFFFFFF80) >> 7:012d}"


_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def has_valid_checksum(token: str) -> bool:
    """True when the last six characters of a GitHub or npm token are the CRC of the rest: else it is made up or cut."""
    body, check = token.partition("_")[2][:-6], token[-6:]
    number, text = zlib.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        text = _BASE62[digit] + text
    return text.rjust(6, "0") == check


def _jwt(value: str) -> Recognised | None:
    claims = jwt_claims(value)
    if claims is None:
        return None
    issuer, subject = (claims.get(key) if isinstance(claims.get(key), str) else "" for key in ("iss", "sub"))
    about: dict[str, Attribute] = {"issuer": str(issuer)} if issuer else {}
    for claim in ("azp", "appid", "tid", "scope", "role"):
        if isinstance(claims.get(claim), str):
            about[claim] = str(claims[claim])
    # The subject at its issuer: what the Kubernetes connector gives a service account as an alias.
    who = ("oidc", str(issuer), "subject", str(subject)) if subject and issuer else None
    kubernetes = str(subject).startswith("system:serviceaccount:")
    return Recognised(
        provider="jwt",
        kind=CredentialKind.TOKEN,
        what="Kubernetes service-account token" if kubernetes else "JSON Web Token",
        attributes=about,
        subject=who,
        expires=_moment(claims.get("exp")),
        issued=_moment(claims.get("iat")),
    )


def jwt_claims(value: str) -> dict[str, object] | None:
    """The payload of a JWT, unverified; `None` when it is none."""
    parts = value.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
