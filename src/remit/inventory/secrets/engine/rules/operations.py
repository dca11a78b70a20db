"""Watching, logging and incident tools."""

from __future__ import annotations

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.engine.rule import ALNUM, BASE64, HEX, UPPER, URLSAFE, Rule, token

_KEY = CredentialKind.API_KEY
_SECRET = CredentialKind.SECRET

RULES: tuple[Rule, ...] = (
    token("datadog-key", "Datadog personal token", "ddpat_", ALNUM, 32, 64, kind=_KEY),
    token("newrelic-user-key", "New Relic user key", "NRAK-", UPPER, 27, kind=_KEY),
    token(
        "newrelic-insert-key",
        "New Relic insert key",
        "NRI[IQR]-",
        URLSAFE,
        32,
        keywords=("nrii-", "nriq-", "nrir-"),
        kind=_KEY,
    ),
    token("newrelic-browser-key", "New Relic browser key", "NRJS-", HEX, 19, kind=_KEY),
    token("newrelic-admin-key", "New Relic admin key", "NRA[AM]-", ALNUM, 27, keywords=("nraa-", "nram-"), kind=_KEY),
    token(
        "newrelic-license-key",
        "New Relic license key",
        "(?:[a-f0-9]{36}|[a-z]{2}[0-9]{2}xx[a-f0-9]{26,34})",
        HEX,
        0,
        0,
        tail="NRAL",
        keywords=("nral",),
        kind=_KEY,
    ),
    token(
        "grafana-service-token",
        "Grafana service account token",
        "glsa_[A-Za-z0-9]{32}_",
        "a-fA-F0-9",
        8,
        checksum="crc-hex",
    ),
    token(
        "grafana-cloud-token", "Grafana Cloud token", "glc_", BASE64 + "=", 32, 400, checksum="json-base64", edge=ALNUM
    ),
    token("grafana-api-key", "Grafana API key", "eyJrIjoi", BASE64 + "=", 40, 400, kind=_KEY, edge=ALNUM),
    token("sentry-user-token", "Sentry user token", "sntryu_", HEX, 64),
    token(
        "sentry-org-token", "Sentry organisation token", "sntrys_eyJ", BASE64 + "=_", 80, 500, checksum="json-base64"
    ),
    token("sentry-app-token", "Sentry integration token", "sntryi_", HEX, 64),
    token(
        "pagerduty-key",
        "PagerDuty key",
        r"[yu]\+",
        URLSAFE,
        18,
        keywords=("y+", "u+"),
        kind=_KEY,
        prior=85,
        entropy=3.2,
        edge=URLSAFE + "+",
    ),
    token("incident-io-key", "incident.io key", "inc_", ALNUM, 40, 70, kind=_KEY),
    token("honeycomb-key", "Honeycomb key", "hc[abxmg](?:ik|lk|mk)_", ALNUM, 58, keywords=("hc",), kind=_KEY),
    token("logfire-token", "Logfire token", "pylf_v[0-9]_(?:us|eu|[a-z]{2,8})_", ALNUM, 43, keywords=("pylf_v",)),
    token(
        "dynatrace-token", "Dynatrace token", r"dt0[a-zA-Z][0-9]{2}\.[A-Za-z0-9]{8,24}\.", ALNUM, 64, keywords=("dt0",)
    ),
    token("axiom-token", "Axiom token", "xa[ap]t-", HEX + "-", 36, keywords=("xaat-", "xapt-")),
    token("checkly-key", "Checkly key", "cu_", HEX, 32, kind=_KEY),
    token("posthog-key", "PostHog personal key", "phx_", URLSAFE, 40, 60, kind=_KEY),
    token("posthog-project-key", "PostHog project key", "phc_", URLSAFE, 40, 60, kind=_KEY, prior=70),
    token("segment-token", "Segment public API token", "sgp_", ALNUM, 64),
    token(
        "launchdarkly-token",
        "LaunchDarkly key",
        "(?:api|sdk|mob)-",
        HEX + "-",
        36,
        keywords=("api-", "sdk-", "mob-"),
        kind=_KEY,
        prior=92,
    ),
    token("observe-token", "Observe token", "ds1[A-Za-z0-9]{17}:", URLSAFE, 32),
    token(
        "unleash-token",
        "Unleash client token",
        r"[a-z0-9_*-]{1,40}:(?:development|production|default|test|staging)\.",
        HEX,
        40,
        64,
        keywords=("development.", "production.", "default.", "test.", "staging."),
        edge="",
    ),
    token("flagsmith-key", "Flagsmith server key", r"ser\.", ALNUM, 20, 24, kind=_KEY),
    token("configcat-key", "ConfigCat SDK key", "configcat-sdk-1/[A-Za-z0-9_-]{22}/", URLSAFE, 22, kind=_KEY),
)
