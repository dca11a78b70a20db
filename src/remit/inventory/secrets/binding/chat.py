"""Chat: tokens and webhooks name their team and bot.

Spec: Slack "Token types", "Sending messages using incoming webhooks"; Telegram "Bot API"; Discord "Reference".
"""

from __future__ import annotations

import base64
import re

from remit.inventory.model import CredentialKind, IdentityKind
from remit.inventory.secrets.binding.model import Binding, Seen, Subject, moment, subject

_SLACK = re.compile(r"(?:xoxe\.)?xox([abeoprs])-(?:(\d{9,14})-(\d{9,14})-)?[\w-]{8,400}")
_SLACK_CLASS = {
    "b": "bot", "p": "user", "a": "app", "o": "workspace", "r": "refresh", "s": "session", "e": "configuration",
}  # fmt: skip
_SLACK_APP = re.compile(r"xapp-\d-(A[A-Z0-9]{8,12})-\d+-[a-f0-9]{40,}")
_SLACK_HOOK = re.compile(
    r"https://hooks\.slack(?:-gov)?\.com/(services|workflows|triggers)/(T[A-Z0-9]{8,12})/([AB][A-Z0-9]{8,12})/[\w/-]+"
)
_TELEGRAM = re.compile(r"(\d{8,10}):AA[\w-]{33}")
_DISCORD = re.compile(r"([MNO][\w-]{23,27})\.([\w-]{6})\.[\w-]{27,40}")
_DISCORD_HOOK = re.compile(r"https://(?:canary\.|ptb\.)?discord(?:app)?\.com/api/webhooks/(\d{17,20})/[\w-]{60,70}")
_TEAMS_HOOK = re.compile(
    r"https://([\w-]+)\.webhook\.office\.com/webhookb2/([0-9a-f-]{36})@([0-9a-f-]{36})/IncomingWebhook/\w+/[0-9a-f-]{36}\S*"
)


def bind(seen: Seen) -> Binding | None:
    """A token or webhook of Slack, Telegram, Discord or Microsoft Teams."""
    value = seen.value
    return _slack(value) or _telegram(value) or _discord(value) or _teams(value)


def _slack(value: str) -> Binding | None:
    if found := _SLACK_APP.fullmatch(value):
        app = found.group(1)
        bot = subject("slack", "slack.com", "app", app, of=IdentityKind.BOT, title=f"Slack app {app}")
        return Binding(
            provider="slack", method="app id in the token", what="Slack app token", kind=CredentialKind.TOKEN,
            subject=bot, clear=(app,), attributes={"class": "app-level", "app": app},
        )  # fmt: skip
    if found := _SLACK_HOOK.fullmatch(value):
        _, team, hook = found.groups()
        bot = subject("slack", team, "webhook", hook, of=IdentityKind.BOT, title=f"Slack webhook {hook} of {team}")
        return Binding(
            provider="slack", method="team and webhook in the URL", what="Slack webhook", kind=CredentialKind.SECRET,
            subject=bot, clear=(team, hook), attributes={"class": "webhook", "team": team, "webhook": hook},
        )  # fmt: skip
    found = _SLACK.fullmatch(value)
    if not found:
        return None
    mark, team, member = found.groups()
    kind = _SLACK_CLASS[mark]
    who: Subject | None = None
    if team and mark == "b":
        who = subject("slack", team, "bot", member, of=IdentityKind.BOT, title=f"{member} (slack)")
    elif team and mark == "p":
        who = subject("slack", team, "user", member, of=IdentityKind.CLOUD_USER, title=f"{member} (slack)")
    return Binding(
        provider="slack",
        method=f"team and {kind} in the token" if who else "prefix",
        what=f"Slack {kind} token",
        kind=CredentialKind.TOKEN,
        subject=who,
        clear=(team or "", member or ""),
        attributes={"class": kind, "team": team or "", "member": member or ""},
    )


def _telegram(value: str) -> Binding | None:
    found = _TELEGRAM.fullmatch(value)
    if not found:
        return None
    return Binding(
        provider="telegram", method="bot id in the token", what="Telegram bot token", kind=CredentialKind.TOKEN,
        subject=subject("telegram", "telegram.org", "bot", found.group(1), of=IdentityKind.BOT),
        clear=(found.group(1),), attributes={"bot": found.group(1)},
    )  # fmt: skip


def _discord(value: str) -> Binding | None:
    if found := _DISCORD_HOOK.fullmatch(value):
        hook = found.group(1)
        return Binding(
            provider="discord", method="webhook id in the URL", what="Discord webhook", kind=CredentialKind.SECRET,
            subject=subject("discord", "discord.com", "webhook", hook, of=IdentityKind.BOT),
            clear=(hook,), attributes={"webhook": hook},
        )  # fmt: skip
    found = _DISCORD.fullmatch(value)
    if not found:
        return None
    first, second = found.groups()
    bot = base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)).decode("latin-1")
    if not re.fullmatch(r"\d{17,20}", bot):
        return None
    made = int.from_bytes(base64.urlsafe_b64decode(second + "=="), "big")
    return Binding(
        provider="discord", method="user id in the token", what="Discord bot token", kind=CredentialKind.TOKEN,
        subject=subject("discord", "discord.com", "bot", bot, of=IdentityKind.BOT),
        issued=moment(made + 1_293_840_000) if made < 1_500_000_000 else moment(made),
        attributes={"bot": bot},
    )  # fmt: skip


def _teams(value: str) -> Binding | None:
    found = _TEAMS_HOOK.fullmatch(value)
    if not found:
        return None
    organisation, group, tenant = found.groups()
    return Binding(
        provider="teams", method="group and tenant in the URL", what="Microsoft Teams webhook",
        kind=CredentialKind.SECRET,
        subject=subject(
            "azure", tenant, "webhook", group, of=IdentityKind.BOT, title=f"Teams webhook of {organisation}"
        ),
        clear=found.groups(), attributes={"tenant": tenant, "group": group, "organisation": organisation},
    )  # fmt: skip
