"""Whether one request may pass, for programs that enforce by themselves: the same steps for every framework.

    1  the path has one spelling, and a route names what the request is; else it is refused
    2  a proof says who sent it: a token that is verified here, or what the program proved by itself (`identify`)
    3  the decision point decides; 4  obligations: the program's own (`fulfils`), or asked of the client

`flow` does no I/O: it yields what is to be verified and asked, and a driver, with or without asyncio, does it. A step
that fails, and an answer that does not come, refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from remit.client.enforce.answers import STEP_UP, Answer, challenges, is_away, passes, refuses, steps_up
from remit.client.enforce.paths import canonical_path, plain_path, refused
from remit.client.enforce.pdp import Decided, DecisionPoint, Question
from remit.client.enforce.routes import Matched, RouteTable
from remit.client.enforce.tokens import Bearer, Presented, ResourceServer
from remit.kernel.errors import Rejected, RemitError, Unavailable

_SECONDS: Final = {"fresh-attestation": 60, "step-up": 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request to this program."""

    method: str
    host: str
    path: str
    """As the server decoded it: what the framework routes by."""
    target: str = ""
    """As it came, where the server keeps it."""
    scheme: str = "https"
    authorization: tuple[str, ...] = field(default=(), repr=False)
    dpop: tuple[str, ...] = field(default=(), repr=False)
    x5t: str = ""
    """Thumbprint of the certificate that the connection proved."""
    native: Any = field(default=None, repr=False)
    """The framework's own request, for `identify`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """Who sent a request, as this program proved it."""

    subject: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """A token that is to be verified."""

    token: str = field(repr=False)
    shown: Presented
    audience: str


Effect: TypeAlias = Verify | Question
Identify: TypeAlias = Callable[[Asked], Identified | None]
Flow: TypeAlias = Generator[Effect, Any, Answer]


class Guard:
    """Enforces decisions on the requests of one program."""

    def __init__(
        self,
        pdp: DecisionPoint,
        routes: RouteTable | None = None,
        *,
        tokens: ResourceServer | None = None,
        identify: Identify | None = None,
        fulfils: Collection[str] = (),
        base: str = "",
    ) -> None:
        """`base` is the URL that clients ask for (DPoP): by default the scheme and host of each request."""
        self._pdp = pdp
        self._routes = routes or RouteTable(())
        self._tokens = tokens
        self._identify = identify
        self._fulfils = frozenset(fulfils)
        self._base = base.rstrip("/")

    def check(self, asked: Asked, route: Matched | None = None) -> Answer:
        """Whether it passes; `route` where the program knows what the request is (a decorator)."""
        flow = self.flow(asked, route)
        sent: Any = None
        error: RemitError | None = None
        while True:
            try:
                effect = flow.throw(error) if error is not None else flow.send(sent)
            except StopIteration as done:
                return _answered(done)
            sent, error = None, None
            try:
                sent = self._pdp.ask(effect) if isinstance(effect, Question) else self._verify(effect)
            except RemitError as failed:
                error = failed

    async def check_async(self, asked: Asked, route: Matched | None = None) -> Answer:
        """As `check`, for asyncio."""
        flow = self.flow(asked, route)
        sent: Any = None
        error: RemitError | None = None
        while True:
            try:
                effect = flow.throw(error) if error is not None else flow.send(sent)
            except StopIteration as done:
                return _answered(done)
            sent, error = None, None
            try:
                if isinstance(effect, Question):
                    sent = await self._pdp.ask_async(effect)
                else:
                    sent = await asyncio.to_thread(self._verify, effect)
            except RemitError as failed:
                error = failed

    def flow(self, asked: Asked, route: Matched | None = None) -> Flow:
        """The steps; yields effects, returns the answer."""
        try:
            path = _one_path(asked)
        except Rejected as error:
            return refuses(error.message)
        route = route or self._routes.match(asked.method, asked.host, path)
        if route is None:
            return refuses("no route names this request")
        if route.public:
            return passes(decision="", subject="")
        try:
            found = yield from self._sender(asked, route)
        except Unavailable as error:
            return is_away(error.message)
        except RemitError as error:
            return _unproved(error, asked)
        if found is None:
            return challenges("the request brings no proof of who sends it")
        question = Question(
            subject=found.subject, action=route.action, kind=route.kind, name=route.name,
            claimed={"method": asked.method, "path": path}, proven=found.facts,
        )  # fmt: skip
        try:
            decided: Decided = yield question
        except RemitError as error:
            return is_away(error.message)
        return self._answer(decided, found)

    def _sender(self, asked: Asked, route: Matched) -> Generator[Effect, Any, Identified | None]:
        if self._tokens is not None and asked.authorization:
            if not route.audience:
                raise Rejected("client.token.invalid", "no token is taken here")
            scheme, token = _credentials(asked.authorization)
            url = f"{self._base or f'{asked.scheme}://{asked.host}'}{asked.target.partition('?')[0] or asked.path}"
            shown = Presented(scheme=scheme, method=asked.method, url=url, dpop=asked.dpop, x5t=asked.x5t)
            bearer: Bearer = yield Verify(token=token, shown=shown, audience=route.audience)
            return Identified(subject=bearer.subject, facts=bearer.facts)
        return self._identify(asked) if self._identify is not None else None

    def _verify(self, effect: Verify) -> Bearer:
        assert self._tokens is not None, "a token is verified only where tokens are taken"
        return self._tokens.verify(effect.token, effect.shown, audience=effect.audience)

    def _answer(self, decided: Decided, found: Identified) -> Answer:
        kinds = {each.kind for each in decided.obligations}
        if decided.allowed and kinds <= self._fulfils:
            left = [str(each) for each in decided.obligations]
            return passes(decision=decided.id, subject=found.subject, obligations=left)
        if decided.allowed:
            reason = "the permit asks for what this program does not do: " + ", ".join(sorted(kinds - self._fulfils))
            return refuses(reason, decision=decided.id)
        if kinds and kinds <= STEP_UP:
            first = decided.obligations[0]
            seconds = int(first.detail) if first.detail.isdecimal() else _SECONDS[first.kind]
            return steps_up(first.kind, seconds, decided.reason, decision=decided.id)
        return refuses(decided.reason, decision=decided.id)


def _one_path(asked: Asked) -> str:
    """The path that the framework routes by, when it has one spelling only."""
    path = plain_path(asked.path)
    if asked.target and canonical_path(asked.target) != path:
        raise refused("it is spelt in another way than it is read")
    return path


def _credentials(values: tuple[str, ...]) -> tuple[str, str]:
    scheme, space, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() not in ("bearer", "dpop") or not space or not token or " " in token:
        raise Rejected("client.token.invalid", "`Authorization` is neither one Bearer nor one DPoP token")
    return scheme.lower(), token


def _unproved(error: RemitError, asked: Asked) -> Answer:
    dpop = bool(asked.dpop)
    said = "invalid_dpop_proof" if error.code.startswith("trust.dpop.") else "invalid_token"
    return challenges(error.message, error=said, dpop=dpop)


def _answered(done: StopIteration) -> Answer:
    answer: Answer = done.value
    return answer
