"""The attestor `aws_sts`: an AWS principal, by a request to STS that it signed and that we send.

    begin    the caller says which host of STS it uses; a random challenge goes out
    finish   the caller signed GetCallerIdentity with that challenge as a header; STS, at an address that the operator
             allows, says who signed it

The caller's secret never leaves it. What we pass on is exactly one harmless request: its method, path, body and host
are fixed, only signed headers are sent, and the challenge names our trust domain, so that nobody else can use it here.
Spec: AWS STS API, GetCallerIdentity; "Signature Version 4 signing process".
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from remit.kernel.canonical import Json
from remit.kernel.errors import Unavailable
from remit.kernel.strict import NotStrict, read_object
from remit.trust.attestors import payload as shown
from remit.trust.attestors.payload import expired, malformed, mismatch, unconfigured, untrusted
from remit.trust.attestors.sigv4 import Signed, parse_signed, read_headers
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge
from remit.trust.spiffe import TrustDomain

KIND = "aws_sts"
CHALLENGE_HEADER = "x-remit-challenge"
BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
SKEW = timedelta(minutes=5)
MAX_ANSWER_BYTES = 16 * 1024
_HOST = re.compile(
    r"sts(?:-fips)?(?:\.([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}))?\.(amazonaws\.com|amazonaws\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov)"
)
_PARTITIONS = {"amazonaws.com.cn": ("aws-cn",), "c2s.ic.gov": ("aws-iso",), "sc2s.sgov.gov": ("aws-iso-b",)}
_ARN = re.compile(r"arn:(aws(?:-[a-z]+)*):(sts|iam)::([0-9]{12}):([A-Za-z0-9_+=,.@/:-]{1,512})")
_ASSUMED = re.compile(r"assumed-role/([A-Za-z0-9_+=,.@-]{1,128})/([A-Za-z0-9_+=,.@-]{1,128})")
_CONTENT_TYPE = re.compile(r"application/x-www-form-urlencoded(; ?charset=utf-8)?", re.IGNORECASE)
_SENT = frozenset({"host", "content-type", "x-amz-date", "x-amz-security-token", CHALLENGE_HEADER})
_KEYS = {
    "account": "the number of the account, 12 digits",
    "arn": "the principal's ARN; of a role's session the role's own, `arn:aws:iam::ACCOUNT:role/NAME` without a path",
    "role": "the name of the role, of a session of one",
    "user_id": "the unique id of the user or role (`AIDA…`, `AROA…`), which no later one of the same name has",
    "partition": "`aws`, `aws-cn`, `aws-us-gov`",
}
_FORMS = {
    "account": re.compile(r"[0-9]{12}"),
    "arn": _ARN,
    "role": re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}"),
    "user_id": re.compile(r"[A-Za-z0-9]{4,128}"),
    "partition": re.compile(r"aws(-[a-z]+)*"),
}


class CallerIdentity(Protocol):
    """Sends one signed GetCallerIdentity to STS: `providers.aws.sts`."""

    async def ask(self, host: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """The status and at most 16 KiB of the answer's body; `Unavailable` when there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whom STS named."""

    account: str
    arn: str
    """Of a session of a role, the role's."""
    role: str
    session: str
    user_id: str
    partition: str


class AwsStsAttestor:
    """Believes STS about principals of `accounts`, asked at the hosts of `regions`.

    `regions` holds regions, and `global` for `sts.amazonaws.com`; any of them when there are none.
    Raises `Misconfigured` (`trust.attestor.anchors`).
    """

    id = KIND
    keys: Mapping[str, str] = _KEYS

    def __init__(
        self,
        sts: CallerIdentity,
        *,
        trust_domain: TrustDomain,
        accounts: Collection[str],
        regions: Collection[str] = (),
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not accounts or not all(map(_FORMS["account"].fullmatch, accounts)):
            raise unconfigured(KIND, "it needs accounts, numbers of 12 digits: names of roles are anybody's to give")
        self._sts = sts
        self._trust_domain = trust_domain
        self._accounts = frozenset(accounts)
        self._regions = frozenset(regions)
        self._random = random

    def check(self, selector: Selector) -> None:
        """Refuse a selector that STS could not give."""
        shown.check_selector(selector, KIND, _KEYS, _FORMS)

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Challenge:
        """`payload` is `{"host"}`: the host of STS that the caller will sign for.

        Raises `Rejected` (`trust.proof.malformed`, `.untrusted`).
        """
        shown.only(payload, ("host",))
        host = self._require_host(shown.text(payload, "host", most=253))
        nonce = urlsafe_b64encode(self._random(shown.NONCE_BYTES)).decode().rstrip("=")
        challenge = challenge_value(self._trust_domain.name, nonce)
        return Challenge(
            question={"nonce": nonce, "trust_domain": self._trust_domain.name},
            state={"challenge": challenge, "host": host},
        )

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """`answer` is `{"headers": [[name, value]…]}` of `POST /` with the body of GetCallerIdentity.

        Raises `Rejected` (`trust.proof.malformed`, `.untrusted`, `.mismatch`, `.expired`), `Unavailable`
        (`trust.proof.unanswered`).
        """
        shown.only(answer, ("headers",))
        headers = read_headers(_pairs(answer.get("headers")))
        host = shown.text(challenge.state, "host")
        signed = parse_signed(headers)
        self._require_request(headers, signed, host, now)
        expected = shown.text(challenge.state, "challenge")
        if not hmac.compare_digest(headers.get(CHALLENGE_HEADER, "").encode(), expected.encode()):
            raise mismatch("the request was signed for another question")
        sent = {name: headers[name] for name in (*signed.headers, "authorization")}
        status, body = await self._sts.ask(host, sent, BODY)
        principal = _principal(status, body)
        self._require_ours(principal, host)
        return _evidence(principal, now)

    def _require_host(self, host: str) -> str:
        """A genuine host of STS, of a region that the operator allows: nothing else is ever connected to."""
        form = _HOST.fullmatch(host)
        if form is None:
            raise untrusted("it names a host that is none of STS")
        if self._regions and (form[1] or "global") not in self._regions:
            raise untrusted("it names a host of STS whose region is not allowed")
        return host

    def _require_request(self, headers: Mapping[str, str], signed: Signed, host: str, now: datetime) -> None:
        """It is the one request that we pass on, signed as a whole, for this host, just now."""
        region = (_HOST.fullmatch(host) or ("", None))[1]
        if headers["host"] != host:
            raise mismatch("the request is signed for another host")
        if signed.service != "sts" or (region is not None and signed.region != region):
            raise mismatch("the request is signed for another service or region")
        covered = set(signed.headers)
        if CHALLENGE_HEADER not in covered or "content-type" not in covered:
            raise mismatch(f"the signature does not cover `{CHALLENGE_HEADER}` and `content-type`")
        if covered - _SENT or set(headers) - covered - {"authorization"}:
            raise malformed("the request has a header that is not signed, or that GetCallerIdentity does not need")
        if _CONTENT_TYPE.fullmatch(headers["content-type"]) is None:
            raise malformed("the request's content type is not a form's")
        if abs(now - signed.date) > SKEW:
            raise expired("the request was not signed within the last 5 minutes")

    def _require_ours(self, principal: Principal, host: str) -> None:
        suffix = (_HOST.fullmatch(host) or ("", "", ""))[2]
        if principal.partition not in _PARTITIONS.get(suffix, ("aws", "aws-us-gov")):
            raise untrusted("STS answered for another partition than its own")
        if principal.account not in self._accounts:
            raise untrusted(f"the account `{principal.account}` is not allowed")


def challenge_value(trust_domain: str, nonce: str) -> str:
    """What the header carries: for this trust domain and this question alone."""
    return f"v1;{trust_domain};{nonce}"


def _evidence(principal: Principal, now: datetime) -> Evidence:
    found = {
        "account": principal.account,
        "arn": principal.arn,
        "role": principal.role,
        "user_id": principal.user_id,
        "partition": principal.partition,
    }
    facts: dict[str, Json] = {
        # A session is named by who assumes the role: sessions of one role can take each other's names.
        "node": ".".join(filter(None, (principal.account, principal.user_id, principal.session))),
        "arn": principal.arn,
        "user_id": principal.user_id,
        "session": principal.session,
    }
    return Evidence(
        attestor=KIND,
        selectors=frozenset(Selector(KIND, key, value) for key, value in found.items() if value),
        facts=facts,
        observed=now,
    )


def _pairs(value: Json) -> list[tuple[str, str]]:
    if not isinstance(value, list | tuple) or len(value) > 64:
        raise malformed("`headers` is no list of at most 64")
    found = []
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise malformed("`headers` holds something else than names with values")
        name, text = pair
        if not isinstance(name, str) or not isinstance(text, str):
            raise malformed("`headers` holds something else than names with values")
        found.append((name, text))
    return found


def _principal(status: int, body: bytes) -> Principal:
    """Whom a JSON answer of STS names."""
    if status in (400, 403):
        raise mismatch("STS refuses the signature, or the credentials have ended")
    if status != 200:
        raise _unanswered(f"it answered {status}")
    try:
        outer = read_object(body, max_bytes=MAX_ANSWER_BYTES)
    except NotStrict:
        raise _unanswered("its answer cannot be read") from None
    answer = _member(_member(outer, "GetCallerIdentityResponse"), "GetCallerIdentityResult")
    account, arn, user_id = (answer.get(name) for name in ("Account", "Arn", "UserId"))
    form = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    if form is None or form[3] != account or not isinstance(user_id, str) or not 0 < len(user_id) <= 256:
        raise _unanswered("its answer names nobody")
    unique = user_id.partition(":")[0]
    assumed = _ASSUMED.fullmatch(form[4]) if form[2] == "sts" else None
    role, session = (assumed[1], assumed[2]) if assumed else ("", "")
    return Principal(
        account=form[3],
        arn=f"arn:{form[1]}:iam::{form[3]}:role/{role}" if role else form[0],
        role=role,
        session=session,
        user_id=unique if _FORMS["user_id"].fullmatch(unique) else "",
        partition=form[1],
    )


def _member(value: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = value.get(name)
    if not isinstance(found, Mapping):
        raise _unanswered("its answer cannot be read")
    return found


def _unanswered(why: str) -> Unavailable:
    return Unavailable(
        "trust.proof.unanswered",
        f"STS does not say who signed this: {why}",
        next_step="try again",
        retry_after=timedelta(seconds=10),
    )
