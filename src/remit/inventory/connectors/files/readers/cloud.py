"""What cloud command lines keep in a home: AWS, Google Cloud, Azure, and those with a single token.

Spec: AWS CLI "Configuration and credential file settings"; Google "Application Default Credentials"; Azure CLI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import flatten, record_aws_key, record_settings
from remit.inventory.connectors.files.formats import Malformed, Setting, mapping, parse_ini, parse_json, sequence, text
from remit.inventory.connectors.files.keys import pem_blocks, read_private_pem
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.values import aws_account, is_placeholder
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name


def read_aws(sheet: Sheet) -> None:
    """Record the keys, roles and programs of each profile."""
    profiles: dict[str, dict[str, Setting]] = {}
    for setting in parse_ini(sheet.file.data, separators="="):
        profiles.setdefault(setting.section.removeprefix("profile "), {})[setting.key.lower()] = setting
    for profile, settings in profiles.items():
        _read_profile(sheet, profile, settings, profiles)


def _read_profile(
    sheet: Sheet, profile: str, settings: dict[str, Setting], profiles: dict[str, dict[str, Setting]]
) -> None:
    plain = {key: setting.value for key, setting in settings.items()}
    if key := settings.get("aws_access_key_id"):
        node = record_aws_key(sheet, key.value, plain.get("aws_secret_access_key", ""), line=key.line, profile=profile)
        if node and key.value.startswith("AKIA"):
            _static_key(sheet, node, key)
    if (session := settings.get("aws_session_token")) and not is_placeholder(session.value):
        sheet.hide(session.value)
    if role := settings.get("role_arn"):
        target = aws_role(sheet, role.value, line=role.line)
        base = profiles.get(plain.get("source_profile", profile), {}).get("aws_access_key_id")
        if target:
            source = sheet.account()
            condition = "with MFA" if "mfa_serial" in plain else ""
            by = f"profile {profile}" + (f" by {base.value}" if base and not is_placeholder(base.value) else "")
            sheet.edge(source, Relation.ASSUME, target, by, line=role.line, conditions=[condition] if condition else [])
    if sso := settings.get("sso_role_name"):
        account = plain.get("sso_account_id", "unknown")
        of = sheet.identity(
            sheet.name("aws", account, "permission-set", sso.value),
            IdentityKind.CLOUD_ROLE,
            f"{sso.value} in {account}",
            line=sso.line,
        )
        sheet.edge(
            sheet.account(), Relation.ASSUME, of, "single sign-on profile", line=sso.line, conditions=["after sign-in"]
        )


def _static_key(sheet: Sheet, node: Name, key: Setting) -> None:
    account = aws_account(key.value)
    sheet.finding(
        "static-cloud-key",
        Severity.MEDIUM,
        f"AWS access key {key.value} does not expire" + (f" (account {account})" if account else ""),
        "a long-lived key in a file is standing access to the account",
        f"see what it reaches with `remit discover aws` and `remit blast {node}`; use single sign-on or a role",
        subject=node,
        line=key.line,
    )


def aws_role(sheet: Sheet, arn: str, *, line: int | None = None) -> Name | None:
    """The role that an ARN names, as the AWS connector names it; `None` when it is no ARN of a role."""
    found = re.fullmatch(r"arn:aws[\w-]*:iam::(\d{12}):role/([\w+=,.@/-]{1,600})", arn.strip())
    if not found:
        return None
    account, local = found.groups()
    return sheet.identity(
        sheet.name("aws", account, "role", local),
        IdentityKind.CLOUD_ROLE,
        local.rpartition("/")[2],
        line=line,
        aliases=[sheet.name("aws", account, "arn", arn.strip())],
        attributes={"arn": arn.strip(), "account": account},
    )


def read_google(sheet: Sheet) -> None:
    """Record a service-account key, a federation configuration, or the login of a person's application default."""
    document = parse_json(sheet.file.data)
    root = mapping(document.value)
    kind = text(root.get("type"))
    if kind == "service_account":
        google_key(sheet, {key: text(value) for key, value in root.items()}, document.line("private_key"))
    elif kind == "authorized_user":
        who = google_account(
            sheet, text(root.get("account")) or "application-default", text(root.get("quota_project_id"))
        )
        sheet.secret(
            "refresh_token", text(root.get("refresh_token")),
            line=document.line("refresh_token"), kind=CredentialKind.TOKEN,
            title="Google refresh token of a person", identity=who,
        )  # fmt: skip
    elif kind == "external_account":
        email = re.search(r"serviceAccounts/([\w.@-]+):", text(root.get("service_account_impersonation_url")))
        if email:
            who = google_account(sheet, email.group(1), "")
            sheet.edge(
                sheet.account(),
                Relation.ASSUME,
                who,
                "workload identity federation",
                conditions=["with the subject token"],
            )
    elif "installed" in root or "web" in root:
        client = mapping(root.get("installed") or root.get("web"))
        sheet.secret("client_secret", text(client.get("client_secret")), line=document.line("client_secret"))
    else:
        record_settings(sheet, flatten(document))


def google_key(sheet: Sheet, key: dict[str, str], line: int | None) -> None:
    """Record a service-account key by the fingerprint of its public half; `Malformed` when it holds none."""
    who = google_account(sheet, key.get("client_email", "unknown"), key.get("project_id", ""))
    block = next(pem_blocks(key.get("private_key", "").encode("utf-8", "replace")), None)
    private = read_private_pem(block) if block else None
    if private is None or private.public is None:
        raise Malformed("a service account without its key")
    node = sheet.credential(
        private.public.fingerprint,
        CredentialKind.PRIVATE_KEY,
        f"key {key.get('private_key_id', '')[:12]} of {key.get('client_email', 'unknown')}",
        line=line,
        identity=who,
        exposed=True,
        attributes={
            "key_id": key.get("private_key_id", ""),
            "project": key.get("project_id", ""),
            "provider": "google",
        },
    )
    sheet.finding(
        "static-cloud-key",
        Severity.HIGH,
        f"a key of {key.get('client_email', 'a service account')} lies in {sheet.file.name}",
        "service-account keys do not expire; whoever copies the file is the service account",
        f"`remit blast {node}` shows what it opens; use workload identity federation or impersonation",
        subject=node,
        line=line,
    )


def google_account(sheet: Sheet, email: str, project: str) -> Name:
    """A Google service account (or login) by its mail address."""
    found = re.fullmatch(r"[\w.-]+@([\w-]+)\.iam\.gserviceaccount\.com", email)
    project = project or (found.group(1) if found else "unknown")
    of = sheet.name("gcp", project, "serviceaccount", email)
    kind = IdentityKind.SERVICE_ACCOUNT if found else IdentityKind.CLOUD_USER
    return sheet.identity(of, kind, email, attributes={"project": project})


def read_azure(sheet: Sheet) -> None:
    """Record the service principals that the Azure CLI keeps in clear, and cached tokens by their number."""
    document = parse_json(sheet.file.data)
    entries = sequence(document.value) if isinstance(document.value, list) else [document.value]
    for index, entry in enumerate(mapping(item) for item in entries):
        tenant = text(entry.get("tenant") or entry.get("servicePrincipalTenant") or entry.get("tenantId"))
        client = text(entry.get("client_id") or entry.get("servicePrincipalId") or entry.get("clientId"))
        secret = text(entry.get("client_secret") or entry.get("accessToken") or entry.get("clientSecret"))
        if client and secret:
            who = azure_application(sheet, tenant, client)
            path = ("client_secret",) if entries == [document.value] else (index,)
            sheet.secret(
                "client_secret", secret, line=document.line(*path), identity=who, attributes={"provider": "azure"}
            )


def azure_application(sheet: Sheet, tenant: str, client: str, *, line: int | None = None) -> Name:
    """An application (service principal) of a tenant."""
    of = sheet.name("azure", tenant or "unknown", "application", client)
    return sheet.identity(
        of, IdentityKind.SERVICE_ACCOUNT, f"application {client}", line=line, attributes={"tenant": tenant}
    )


def read_tokens(sheet: Sheet) -> None:
    """Record the tokens of a command line that keeps a few settings in YAML, TOML or JSON."""
    name = sheet.file.name
    if name.endswith((".toml", ".conf", ".cfg", ".ini")):
        record_settings(sheet, parse_ini(sheet.file.data, separators="="))
    elif name.endswith(".json"):
        record_settings(sheet, flatten(parse_json(sheet.file.data)))
    else:
        record_settings(sheet, _all(sheet))


def _all(sheet: Sheet) -> Iterable[Setting]:
    for document in parse_yaml(sheet.file.data):
        yield from flatten(document)


def read_plain_token(sheet: Sheet) -> None:
    """Record a file whose whole content is one token."""
    value = sheet.file.data.strip().decode("utf-8", "replace")
    if value and not re.search(r"\s", value) and len(value) < 5000:
        sheet.secret(clean(sheet.file.name.strip("."), 60), value, line=1, kind=CredentialKind.TOKEN)


AWS = Reader(
    id="aws-cli",
    reads="profiles, keys and roles of the AWS command line",
    patterns=(
        Pattern(names=("credentials", "config"), under=(".aws",)),
        Pattern(names=(".s3cfg", ".boto")),
        Pattern(regex=r"aws[_-]?credentials(?:\.ini)?"),
    ),
    read=read_aws,
)
GOOGLE = Reader(
    id="google-cloud",
    reads="Google service-account keys and application default credentials",
    patterns=(
        Pattern(names=("application_default_credentials.json", "adc.json")),
        Pattern(
            regex=r"(?:(?:service[_-]?account|gcp|gcloud|google|firebase|client[_-]secret|sa|bigquery)[\w.@-]*|key|keyfile)\.json|"
            r".*[_-](?:key|credentials?|sa|service[_-]account)\.json|[\w-]+-[0-9a-f]{12}\.json"
        ),
        Pattern(suffixes=(".json",), under=("gcloud/legacy_credentials",)),
    ),
    read=read_google,
)
AZURE = Reader(
    id="azure-cli",
    reads="service principals of the Azure command line",
    patterns=(
        Pattern(names=("service_principal_entries.json", "accesstokens.json", "azureauth.json"), under=(".azure",)),
        Pattern(names=("azureauth.json", "azure-credentials.json", "service_principal_entries.json")),
    ),
    read=read_azure,
)
TOKENS = Reader(
    id="cli-tokens",
    reads="tokens of doctl, hcloud, flyctl, Vercel, Netlify, Databricks, Snowflake, Cloudflare, Argo CD, glab",
    patterns=(
        Pattern(
            names=("config.yaml", "config.yml"),
            under=("doctl", ".fly", "glab-cli", ".config/scw", "stripe", "argocd", ".argocd"),
        ),
        Pattern(names=("config",), under=(".argocd", "argocd")),
        Pattern(
            names=("cli.toml", "config.toml"),
            under=("hcloud", "stripe", ".snowflake", "cloudflare", ".wrangler/config", "wrangler/config"),
        ),
        Pattern(names=("default.toml",), under=(".wrangler/config", "wrangler/config")),
        Pattern(
            names=("auth.json",), under=("com.vercel.cli", ".vercel", "containers", ".codex", ".composer", "composer")
        ),
        Pattern(names=("config.json",), under=(".netlify", "netlify", "ngrok", ".bw", "Bitwarden CLI")),
        Pattern(names=(".databrickscfg", "linode-cli", "ngrok.yml", "credentials.toml", "credentials.tfrc.json")),
    ),
    read=read_tokens,
)
PLAIN = Reader(
    id="token-file",
    reads="files that are one token: Vault, Consul, Kubernetes pods, Hugging Face",
    patterns=(
        Pattern(names=(".vault-token", ".consul-token", ".huggingface-token")),
        Pattern(names=("token",), under=("huggingface", ".huggingface", "serviceaccount", ".doppler")),
        Pattern(names=("cookie", ".erlang.cookie")),
    ),
    read=read_plain_token,
)
