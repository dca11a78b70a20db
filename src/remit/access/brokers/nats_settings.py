"""What a NATS target can be told: keys, options, and roles as subjects that may be published and subscribed to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remit.access.brokers.options import bad_option, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.nats.client import Address
from remit.providers.nats.nkeys import KeyPair, decode_jwt, is_public, read_seed

MANIFEST = BrokerManifest(
    id="nats",
    title="NATS 2.10 and later in operator mode, with the full resolver",
    needs=(
        "nsc edit operator --sk generate    # a signing key of the operator: signs the account when leases are revoked",
        "nsc edit account ACCOUNT --sk generate    # a signing key of the account: signs users",
        "nsc add user --account SYS remit --allow-pub '$SYS.REQ.SERVER.>,$SYS.REQ.CLAIMS.UPDATE,"
        "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP' --allow-sub '_INBOX.>'",
    ),
    fail_safe=True,
    native_expiry=False,
    hazards=(
        "a user's JWT names the end of its grant as its expiry, and the server ends login and connections then, though "
        "Remit is dead; renewals do not move it, so a dead Remit leaves a lease until its grant ends",
        "a signing key of the operator can sign every account of it: keep the account under an operator of its own",
        "the account's JWT has one writer: who pushes a copy without its revocations (`nsc push` without `nsc pull`) "
        "lets revoked users in again until the next look of Remit (at every mint, renewal, revocation and sweep), and "
        "for ever where Remit was started again in between and the grant has not ended",
        "revocations and live leases are written in the account's JWT until they expire, some 200 bytes each: it must "
        "stay below the servers' `max_payload`",
        "a server that was away at a revocation has it only after its resolver has synchronised",
        "messages that a lease published stay in streams; nobody can tell who published them",
    ),
)

_OPTIONS = frozenset({"ca", "tls", "servers", "system", "source"})
_SUBJECT = re.compile(r"(?:[A-Za-z0-9_$/:=-]{1,64}|\*)(?:\.(?:[A-Za-z0-9_$/:=-]{1,64}|\*)){0,15}(?:\.>)?|>")
_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BROAD = re.compile(r">|\*.*|\$SYS(?:\..*)?|\$JS\.?(?:API)?(?:\.[*>].*)?|_INBOX\.[*>].*|_R_.*")
_WORD = re.compile(r"(-?)(pub|sub):(\S{1,200})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options and keys, decoded: whatever is not known is an error."""

    account: str
    """The account's public key."""
    clients: tuple[Address, ...]
    """Where tasks log in; a lease is refused at each of them before its revocation is proved."""
    system: Address
    """Where the system account logs in."""
    sources: tuple[str, ...]
    """Networks from which leases may log in; empty: from all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What the target's secret holds."""

    operator: KeyPair
    signing: KeyPair
    """Of the account, or one of its signing keys."""
    system: KeyPair
    system_jwt: str = field(repr=False)


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured` (`access.target.option`, `access.nats.role`) names what is wrong."""
    options: Mapping[str, str] = target.options
    require_known(options, _OPTIONS)
    if options.get("tls", "false") not in ("true", "false"):
        raise bad_option("tls", "use `true` or `false`")
    if not is_public(target.user, "A"):
        raise Misconfigured(
            "access.nats.account",
            f"`{target.user[:80]}` is no public key of an account",
            next_step="write the URL as nats://ACCOUNT-PUBLIC-KEY@HOST:PORT; `nsc describe account` shows it",
        )
    for role in target.roles.values():
        permissions_of(role, "check")
    tls, ca = options.get("tls") == "true", options.get("ca", "")
    first = Address(host=target.host, port=target.port, tls=tls, ca=ca)
    others = [_address("servers", part, tls, ca) for part in _parts(options.get("servers", ""))]
    system = _address("system", options["system"], tls, ca) if "system" in options else first
    sources = tuple(_parts(options.get("source", "")))
    if bad := [one for one in sources if not re.fullmatch(r"[0-9a-fA-F:.]{2,39}/[0-9]{1,3}", one)]:
        raise bad_option("source", f"`{bad[0][:40]}` is no network as 10.0.0.0/8")
    return Settings(account=target.user, clients=(first, *others), system=system, sources=sources)


def decode_secret(secret: str) -> Keys:
    """Read what `--password-stdin` gave: seeds and the .creds of a system user, in any order and with any other text.

    Raises `Misconfigured` (`access.nats.keys`), never with any of it.
    """
    words = secret.split()
    seeds: dict[str, KeyPair] = {}
    try:
        for word in words:
            if re.fullmatch(r"S[AOU][A-Z2-7]{56}", word):
                key = read_seed(word)
                seeds[key.kind] = key
        [jwt] = [word for word in words if word.startswith("eyJ")]
        if decode_jwt(jwt)["sub"] != seeds["U"].public:
            raise ValueError
        return Keys(operator=seeds["O"], signing=seeds["A"], system=seeds["U"], system_jwt=jwt)
    except (ValueError, KeyError, Rejected):
        raise Misconfigured(
            "access.nats.keys",
            "the keys of the target are not complete",
            next_step="give three in one line: the .creds of a user of the system account, a signing key of the "
            "operator, and one of the account",
        ) from None


def permissions_of(role: str, principal: str) -> dict[str, Any]:
    """A role's rights as claims of a user: whatever it does not name is denied. `Misconfigured`: `access.nats.role`."""
    # Without any allow, NATS allows everything.
    rights: dict[str, Any] = {kind: {"allow": [], "deny": []} for kind in ("pub", "sub")}
    for word in role.split():
        match = _WORD.fullmatch(word)
        if word == "inbox":
            rights["sub"]["allow"].append(f"{inbox_of(principal)}.>")
        elif word == "reply":
            rights["resp"] = {"max": 1, "ttl": 60_000_000_000}
        elif match is None:
            raise _bad_role(word, "use pub:SUBJECT, sub:SUBJECT, sub:SUBJECT@QUEUE, -pub:…, -sub:…, inbox, reply")
        else:
            minus, kind, subject = match.groups()
            rights[kind]["deny" if minus else "allow"].append(_subject(word, kind, subject, denied=bool(minus)))
    if not rights["pub"]["allow"] and not rights["sub"]["allow"]:
        raise _bad_role(role[:60], "a role needs at least one pub:SUBJECT or sub:SUBJECT")
    for kind in ("pub", "sub"):
        if not rights[kind]["allow"]:
            rights[kind] = {"deny": [">"]}
    return rights


def inbox_of(principal: str) -> str:
    """Where answers to a lease's own requests come: `_INBOX.>` would show it everybody's."""
    return f"_INBOX_{principal}"


def _subject(word: str, kind: str, text: str, *, denied: bool) -> str:
    subject, _, queue = text.partition("@")
    if not _SUBJECT.fullmatch(subject) or (queue and (kind == "pub" or not _QUEUE.fullmatch(queue))):
        raise _bad_role(word, "a subject is words of A-Z, a-z, 0-9, _ and - with dots between, `*` for one, `>` last")
    if not denied and _BROAD.fullmatch(subject):
        raise _bad_role(word, "name the subjects that tasks in this role need; for answers to requests write `inbox`")
    return f"{subject} {queue}" if queue else subject


def _address(key: str, text: str, tls: bool, ca: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise bad_option(key, "write HOST:PORT")
    return Address(host=host.strip("[]"), port=int(port), tls=tls, ca=ca)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.nats.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
