"""What the owner of a leaked credential does where Remit cannot end it: the issuer's own steps, in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BY_PROVIDER: Final[Mapping[str, str]] = {
    "github": "in GitHub, as the account that made it: Settings → Developer settings → Personal access tokens → the "
    "token → Delete (an app's token: Settings → Applications → Revoke; a deploy key: the repository's Settings → "
    "Deploy keys → Delete); then read the security log for what it was used for",
    "gitlab": "in GitLab: Preferences → Access tokens → Revoke for a personal token; Settings → Access tokens → Revoke "
    "in the project or group for theirs; Settings → CI/CD → Runners for a runner's",
    "aws": "in AWS: `aws iam update-access-key --status Inactive --access-key-id ID --user-name USER`, watch that "
    "nothing breaks, then `aws iam delete-access-key`; for keys of the root account in the console under Security "
    "credentials; sessions made with it end by a policy that denies tokens issued before now",
    "azure": "in Entra ID: App registrations → the application → Certificates & secrets → Delete; a storage key: the "
    "account → Access keys → Rotate key",
    "google": "in Google Cloud: `gcloud iam service-accounts keys delete KEY_ID --iam-account ACCOUNT`; an API key: "
    "APIs & Services → Credentials → Delete; an OAuth secret: the client → Reset secret",
    "google-root": "in Google Cloud: `gcloud iam service-accounts keys delete KEY_ID --iam-account ACCOUNT`",
    "slack": "in Slack, as the app's collaborator: the app → OAuth & Permissions → Revoke tokens (or call auth.revoke "
    "with the token); a webhook: Incoming Webhooks → Remove",
    "discord": "in Discord: the application → Bot → Reset Token; a webhook: the channel → Integrations → Delete",
    "teams": "in Microsoft Teams: the channel → Manage channel → Connectors → the webhook → Remove",
    "telegram": "write /revoke to BotFather and choose the bot",
    "atlassian": "in the Atlassian account: Security → API tokens → Revoke",
    "stripe": "in Stripe: Developers → API keys → Roll key, expiring now",
    "openai": "in the OpenAI platform: API keys → the key → Revoke",
    "anthropic": "in the Anthropic console: API keys → the key → Delete",
    "npm": "with npm: `npm token revoke ID` (`npm token list` shows the ids), or Access Tokens on the site",
    "pypi": "in PyPI: Account settings → API tokens → Remove",
    "docker": "in Docker Hub: Account settings → Personal access tokens → Delete",
    "sendgrid": "in SendGrid: Settings → API Keys → Delete",
    "twilio": "in Twilio: Account → API keys & tokens → Delete the key; an auth token: promote the secondary one",
    "datadog": "in Datadog: Organization Settings → API or Application Keys → Revoke",
    "vault": "`vault token revoke -accessor ACCESSOR`, or with the token itself `vault token revoke -self`",
    "openbao": "`bao token revoke -accessor ACCESSOR`, or with the token itself `bao token revoke -self`",
    "kubernetes": "`kubectl delete secret NAME` for a service account's token; a bound token ends with its pod",
    "postgres": "on the server: `ALTER ROLE name NOLOGIN PASSWORD NULL`, then end its sessions with "
    "pg_terminate_backend; or set another password and change its consumers",
    "mysql": "on the server: `ALTER USER name ACCOUNT LOCK`, then KILL its connections; or `SET PASSWORD`",
    "mongodb": "on the server: `db.changeUserPassword(name, passwordPrompt())`, or db.dropUser; then kill its sessions",
    "redis": "on the server: `ACL SETUSER name off resetpass`, `CLIENT KILL USER name`, `ACL SAVE`",
    "rabbitmq": "on the server: `rabbitmqctl clear_password name`, then `rabbitmqctl close_all_user_connections name`",
    "ldap": "set another userPassword for the entry, or lock it; bound connections end when the server closes them",
    "ssh": "take the public key out of every authorized_keys that has it; a certificate: add its key to the KRL",
    "jwt": "revoke it at the issuer by its `jti`, or change the key that signed it; it ends by itself at its `exp`",
}  # fmt: skip
_BY_KIND: Final[Mapping[str, str]] = {
    "ssh-key": _BY_PROVIDER["ssh"],
    "private-key": "have the certificates of this key revoked by their authority, make a new key where it is used, "
    "and take its public key out of whatever trusts it",
}
_ELSE: Final = "replace it at its issuer, change every consumer, then revoke the old one there"


def instruction_for(provider: str, kind: str) -> str:
    """How to end a credential of this provider (`github`) or else of this kind (`ssh-key`); never empty, no links."""
    return _BY_PROVIDER.get(provider) or _BY_KIND.get(kind, _ELSE)
