"""Tokens that carry claims: who issued them, to whom, for what, until when. Nothing is verified: nobody is asked.

Spec: RFC 7519 §4; Kubernetes "Service account tokens"; Supabase "JWT claims"; github.com/nats-io/jwt v2.
"""

from __future__ import annotations

from remit.inventory.connectors.files.values import jwt_claims
from remit.inventory.model import Attribute, CredentialKind, IdentityKind
from remit.inventory.secrets.binding import kubernetes
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, Subject, moment, subject
from remit.kernel.ids import Name, name

_SHOWN = (
    "azp",
    "appid",
    "client_id",
    "cid",
    "tid",
    "oid",
    "scope",
    "scp",
    "role",
    "ref",
    "email",
    "preferred_username",
)


def bind(seen: Seen) -> Binding | None:
    """A JWT by its claims, or else a credential inside a kubeconfig."""
    claims = jwt_claims(seen.value) if seen.value.startswith("ey") else None
    if claims is None:
        return kubernetes.bind(seen)
    if isinstance(claims.get("nats"), dict):
        return _nats(claims)
    issuer, who = _text(claims.get("iss")), _text(claims.get("sub"))
    account = _service_account(claims, issuer, who)
    about = _about(claims, seen)
    if account is None and (found := kubernetes.bind(seen)) is not None:
        account = found.subject
    harmless = "public by design" if about.get("role") == "anon" and "ref" in about else ""
    return Binding(
        provider="kubernetes" if who.startswith("system:serviceaccount:") else "jwt",
        method="subject in the token's claims" if account else "form",
        what=_what(claims, issuer, who),
        kind=CredentialKind.TOKEN,
        subject=account or _subject(claims, issuer, who),
        issued=moment(claims.get("iat")),
        expires=moment(claims.get("exp")),
        harmless=harmless,
        attributes=about,
    )


def _text(value: object) -> str:
    return value[:500] if isinstance(value, str) else ""


def _about(claims: dict[str, object], seen: Seen) -> dict[str, Attribute]:
    about: dict[str, Attribute] = {"issuer": _text(claims.get("iss"))}
    audience = claims.get("aud")
    if isinstance(audience, list):
        audience = ", ".join(str(each) for each in audience[:5])
    about["audience"] = _text(audience)
    for claim in _SHOWN:
        value = claims.get(claim)
        if isinstance(value, list):
            value = " ".join(str(each) for each in value[:20])
        about[claim] = _text(value)
    pod = claims.get("kubernetes.io")
    if isinstance(pod, dict) and isinstance(pod.get("pod"), dict):
        about["pod"], about["pod_uid"] = _text(pod["pod"].get("name")), _text(pod["pod"].get("uid"))
    head = jwt_claims("." + seen.value.partition(".")[0] + ".") or {}
    about["key_id"], about["algorithm"] = _text(head.get("kid")), _text(head.get("alg"))
    about["bounded"] = "exp" in claims
    return {key: value for key, value in about.items() if value != ""}


def _what(claims: dict[str, object], issuer: str, who: str) -> str:
    if who.startswith("system:serviceaccount:"):
        return "Kubernetes service-account token"
    if issuer == "supabase" or "supabase" in issuer:
        return f"Supabase {_text(claims.get('role'))} key".replace("  ", " ")
    if "login.microsoftonline.com" in issuer or "sts.windows.net" in issuer:
        return "Microsoft Entra token"
    return "JSON Web Token"


def _service_account(claims: dict[str, object], issuer: str, who: str) -> Subject | None:
    """A service account of a cluster: by issuer and subject, as the clouds and the Kubernetes connector see it."""
    parts = who.split(":")
    if parts[:2] != ["system", "serviceaccount"] or len(parts) != 4:
        return None
    legacy = issuer in ("kubernetes/serviceaccount", "")
    instance = "unknown" if legacy else issuer
    return subject(
        "oidc", instance, "subject", who, title=f"service account {parts[2]}/{parts[3]}",
        aliases=_bare(instance, who),
        attributes={"issuer": issuer, "namespace": parts[2], "service_account": parts[3]},
    )  # fmt: skip


def _bare(issuer: str, who: str) -> tuple[Name, ...]:
    """AWS writes issuers without their scheme."""
    bare = issuer.removeprefix("https://").rstrip("/")
    return (name("oidc", bare, "subject", who),) if bare != issuer else ()


def _subject(claims: dict[str, object], issuer: str, who: str) -> Subject | None:
    application = _text(claims.get("appid")) or (_text(claims.get("azp")) if claims.get("idtyp") == "app" else "")
    if application and (tenant := _text(claims.get("tid"))):
        return subject("azure", tenant, "application", application, title=f"application {application}",
                       attributes={"tenant": tenant, "object": _text(claims.get("oid"))})  # fmt: skip
    if project := _text(claims.get("ref")):
        role = _text(claims.get("role")) or "unknown"
        return subject("supabase", project, "role", role, of=IdentityKind.DATABASE_ROLE, title=f"{role} of {project}")
    if not issuer or not who:
        return None
    kind = IdentityKind.SERVICE_ACCOUNT
    return subject("oidc", issuer, "subject", who, of=kind, aliases=_bare(issuer, who), title=f"{who} at {issuer}")


def _nats(claims: dict[str, object]) -> Binding:
    user, account = _text(claims.get("sub")), _text(claims.get("iss"))
    nats = claims.get("nats")
    assert isinstance(nats, dict)
    account = _text(nats.get("issuer_account")) or account
    label = _text(claims.get("name")) or user[:12]
    return Binding(
        provider="nats",
        method="public keys in the token's claims",
        what="NATS JWT",
        kind=CredentialKind.TOKEN,
        subject=subject("nats", account or "unknown", "user", user, title=f"{label} (NATS)"),
        reached=_nats_account(account),
        issued=moment(claims.get("iat")),
        expires=moment(claims.get("exp")),
        # The token says who somebody is; only the seed beside it proves it.
        harmless="proves nothing without its seed",
        attributes={"account": account, "user": user, "class": _text(nats.get("type"))},
    )


def _nats_account(account: str) -> tuple[Reached, ...]:
    if not account:
        return ()
    return (Reached(name=name("nats", account, "account", account), kind="nats-account", title=account[:20]),)
