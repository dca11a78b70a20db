"""Work tools: tickets, documents, identity."""

from __future__ import annotations

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.engine.rule import ALNUM, HEX, UPPER, URLSAFE, Rule, token

_KEY = CredentialKind.API_KEY
_SECRET = CredentialKind.SECRET

RULES: tuple[Rule, ...] = (
    token(
        "atlassian-token",
        "Atlassian API token",
        "ATAT[A-Z]",
        URLSAFE + "=",
        90,
        260,
        checksum="atlassian",
        edge=URLSAFE,
    ),
    token(
        "atlassian-scoped-token",
        "Atlassian organisation token",
        "ATCTT3",
        URLSAFE + "=",
        160,
        260,
        checksum="atlassian",
        edge=URLSAFE,
    ),
    token("linear-key", "Linear key", "lin_api_", ALNUM, 40, kind=_KEY),
    token("linear-oauth-token", "Linear OAuth token", "lin_oauth_", ALNUM, 40, 64),
    token("notion-token", "Notion token", "ntn_", ALNUM, 40, 50),
    token("notion-old-token", "Notion integration secret", "secret_", ALNUM, 43),
    token("airtable-token", "Airtable token", r"pat[A-Za-z0-9]{13,14}\.", HEX, 64),
    token("asana-token", "Asana token", "[0-2]/[0-9]{13,20}(?:/[0-9]{13,20})?:", ALNUM, 32, keywords=("/",)),
    token(
        "figma-token",
        "Figma token",
        "fig[doua]r?_",
        URLSAFE,
        40,
        48,
        keywords=("figd_", "figo_", "figu_", "figa_", "figor_", "figr_"),
        edge=URLSAFE,
    ),
    token("clickup-token", "ClickUp token", "pk_[0-9]{4,9}_", UPPER, 32, keywords=("pk_",)),
    token("typeform-token", "Typeform token", "tfp_", URLSAFE + ".=", 59),
    token("dropbox-token", "Dropbox token", r"sl\.(?:u\.)?", URLSAFE + "=", 120, 1200, keywords=("sl.",), edge=URLSAFE),
    token("okta-token", "Okta token", "00", URLSAFE, 40, keywords=("00",), prior=45, entropy=4.2, edge=URLSAFE + "."),
    token(
        "clerk-secret-key",
        "Clerk secret key",
        "(?:sk)_(?:live|test)_",
        ALNUM,
        40,
        60,
        keywords=("sk_live", "sk_test"),
        kind=_KEY,
    ),
    token("workos-key", "WorkOS key", "sk_(?:live|test)_a2V5X", ALNUM, 40, 120, keywords=("a2v5x",), kind=_KEY),
    token(
        "stytch-secret",
        "Stytch secret",
        "secret-(?:test|live)-",
        URLSAFE + "=",
        36,
        keywords=("secret-test-", "secret-live-"),
        kind=_SECRET,
    ),
    token("hubspot-token", "HubSpot private app token", "pat-(?:na|eu|ap)[0-9]-", "A-Fa-f0-9-", 36, keywords=("pat-",)),
    token(
        "salesforce-token",
        "Salesforce access token",
        "00[A-Za-z0-9]{13,16}!",
        ALNUM + "._-",
        80,
        260,
        keywords=("00",),
    ),
    token("salesforce-refresh-token", "Salesforce refresh token", "5Aep861", ALNUM + "._", 40, 90),
    token("cal-com-key", "Cal.com key", "cal_(?:live_)?", HEX, 32, keywords=("cal_",), kind=_KEY),
    token("close-key", "Close key", r"api_[A-Za-z0-9]{22}\.", ALNUM, 22, kind=_KEY),
    token("descope-key", "Descope key", "K2[A-Za-z0-9]{25}:", ALNUM, 40, 80, kind=_KEY),
    token("retool-token", "Retool token", "retool_", URLSAFE, 28, 64, prior=88),
    token(
        "ory-token", "Ory key", "ory_(?:apikey|pat|st|at|rt|wak|ac)_", URLSAFE, 30, 60, keywords=("ory_",), edge=URLSAFE
    ),
    token("rootly-key", "Rootly key", "rootly_", HEX, 64, kind=_KEY),
    token("ramp-secret", "Ramp secret", "ramp_(?:id|sec)_", ALNUM, 40, 48, keywords=("ramp_",), kind=_SECRET),
    token("endor-labs-secret", "Endor Labs secret", r"endr\+", ALNUM, 16, kind=_SECRET),
    token(
        "persona-key",
        "Persona key",
        "persona_(?:production|sandbox)_",
        HEX + "-",
        36,
        keywords=("persona_",),
        kind=_KEY,
    ),
)
