"""AWS: a role of its own for each lease, under a permissions boundary, and one session of it.

A session of STS cannot be revoked by itself, so each lease has a throw-away role under `/remit/INSTANCE/`; only the
broker may become it, with what it knows of the lease. The expiry is a policy of the role, which renewals move: AWS
denies everything after it, though Remit is dead. The order of a revocation: nobody becomes the role any more → all its
sessions are denied everything → the very session is refused, on the path where the broker is admitted → its rights go,
then the role → look until it is not there → the session is still refused.

Spec: AWS STS, AssumeRole; IAM, "Revoking IAM role temporary security credentials", "Permissions boundaries".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from remit.access.brokers.aws_doctor import examine, rights_of
from remit.access.brokers.aws_session import (
    ALLOWS,
    ENDED,
    EXPIRY,
    PRINCIPAL,
    allows,
    asking,
    closed,
    credential_files,
    ended,
    ends_at,
    role_tags,
    seal,
    sealed_in,
    sealed_tags,
    session_tags,
    trust,
    unseal,
)
from remit.access.brokers.aws_settings import (
    LONGEST_SECONDS,
    MANIFEST,
    SHORTEST_SECONDS,
    Mapped,
    check_region,
    decode_options,
    decode_secret,
    path_of,
    template,
)
from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.model import LeftBehind, Minted, MintOrder, Proof, Proved, Revocation, RevokeOrder, Target, Unproved
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Conflict, Denied, Misconfigured, Rejected, Unavailable
from remit.providers.aws.account import Account, Session
from remit.providers.aws.query import Answer, Keys

_T = TypeVar("_T")
_CLOCK = SystemClock()
_SETTLES_WITHIN = 20.0
"""How long IAM may take until a new role can be used."""
_REFUSED_WITHIN = 8.0
"""How long IAM may take until what it was told holds."""
_LOOK_AGAIN = 0.2
_AT_ONCE: Final = 8
_REMEMBERED: Final = 2000
_LONGEST_ROLE: Final = 3600
"""No role may have a shorter longest session."""
_LEFT: Final = LeftBehind(what="what it made in the account", fate="not seen")
UNKNOWN: Final = Keys(id="AKIAREMITUNKNOWN0000", secret="nobody's", token="")
"""No account may admit it."""


class AwsBroker:
    """Mints, renews, revokes, proves and sweeps in one account."""

    def __init__(
        self,
        target: Target,
        secret: str,
        *,
        now: Callable[[], datetime] = _CLOCK.now,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = decode_options(target)
        self._keys = Keys(id=target.user, secret=decode_secret(target.user, secret))
        self._target = target
        self._now = now
        self._randomness = randomness
        self._account: Account | None = None
        self._arn = ""
        self._instance = ""
        # Sessions whose role is gone, until their refusal was seen.
        self._struck: dict[str, Session] = {}

    def __repr__(self) -> str:
        return f"AwsBroker({self._settings.account})"

    async def open(self) -> None:
        """Be known to STS in the very account; `Unavailable`, or `Misconfigured` where it does not know our key."""
        await self.close()
        settings = self._settings
        account = Account(self._keys, region=settings.region, now=self._now, endpoint=settings.endpoint, ca=settings.ca)
        try:
            caller = (await account.caller()).judged()
            if caller.text("Account") != settings.account:
                raise Misconfigured(
                    "access.aws.account",
                    f"the access key is of the account `{caller.text('Account')[:12]}`, not of `{settings.account}`",
                    next_step="name the account of the key in the URL",
                )
        except BaseException:
            await account.close()
            raise
        self._account, self._arn = account, caller.text("Arn")

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        account, self._account = self._account, None
        if account is not None:
            await account.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Make the role with its expiry and rights, become it once, and try the session."""
        instance_of([order.principal])
        mapped = self._settings.roles.get(order.role)
        if mapped is None:
            raise Rejected(
                "access.role.not_mapped",
                f"the target `{self._target.name}` maps no role to `{order.role[:100]}`",
                next_step="map it with `remit target add --role NAME=…`",
            )
        region, account = check_region(order.database or self._settings.region), self._opened
        tags = await self._make(order)
        arn = self._settings.role_arn(order.principal, path_of(instance_of([order.principal])))
        # The end first: no right of the lease is ever without it.
        for policy, document in ((EXPIRY, ends_at(order.expires)), (ALLOWS, allows(mapped, arn))):
            if not await account.put_policy(order.principal, policy, document):
                raise Unavailable("access.aws.unsettled", f"IAM does not know `{order.principal}` yet")
        for policy in mapped.policies:
            await account.attach(order.principal, policy)
        sealed = sealed_in(tags) or await self._become(order, mapped, arn)
        session = unseal(sealed, order.secret, order.principal)
        if session is None:
            raise Conflict("access.aws.taken", f"`{order.principal}` was minted with another secret")
        tried = await _until(lambda: account.look(order.principal, session.keys), _admitted, _SETTLES_WITHIN)
        if not _admitted(tried):
            raise Rejected(
                "access.lease.login",
                f"the new credential does not work: {_words(tried)}",
                next_step="see that the boundary is as `remit target install NAME --print` shows it",
            )
        return Minted(principal=order.principal, settings=self._tell(order, region, arn, sealed, session))

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Move the expiry in the policies of the roles that exist."""
        if not principals:
            return []
        account, gate = self._opened, asyncio.Semaphore(_AT_ONCE)
        existing = set(await account.roles(path_of(instance_of(principals))))

        async def moved(principal: str) -> bool:
            async with gate:
                return await account.put_policy(principal, EXPIRY, ends_at(expires))

        known = [name for name in principals if name in existing]
        done = await _all(moved(name) for name in known)
        return [name for name, there in zip(known, done, strict=True) if there]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them and prove each; those that could not be finished say `gone=False` and why."""
        if not orders:
            return []
        instance_of([order.principal for order in orders])
        gate, account = asyncio.Semaphore(_AT_ONCE), self._opened

        async def ended_one(order: RevokeOrder) -> bool:
            async with gate:
                return await self._end(account, order)

        async def told(order: RevokeOrder, existed: bool) -> Revocation:
            async with gate:
                return await self._finish(account, order, existed=existed)

        # No proof of one may delay the end of another.
        began = asyncio.get_running_loop().time()
        existed = await _all(ended_one(order) for order in orders)
        done = await _all(told(order, was) for order, was in zip(orders, existed, strict=True))
        lasted = timedelta(seconds=asyncio.get_running_loop().time() - began)
        return [replace(one, duration=lasted) for one in done]

    async def sweep(self, instance: str) -> Sequence[str]:
        """The roles of this installation, by path and full name."""
        self._instance = instance
        return of_instance(await self._opened.roles(path_of(instance)), instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        asked = examine(self._account, self._settings, self._target.name, unknown=UNKNOWN, now=self._now)
        rights = rights_of(self._account, self._settings, self._target.name, arn=self._arn, instance=self._instance)
        return [*await asked, *await rights]

    def install_script(self, instance: str) -> str:
        """Boundary and rights for exactly this target's roles, as a template of CloudFormation."""
        return template(self._settings, instance)

    async def install(self, instance: str) -> Sequence[str]:
        """Refuses: who can give itself rights has them all."""
        raise Denied(
            "access.aws.install",
            "the broker cannot give itself rights",
            next_step=f"let an administrator deploy what `remit target install {self._target.name} --print` shows",
        )

    @property
    def _opened(self) -> Account:
        if self._account is None:
            raise Unavailable("access.target.closed", f"the target `{self._target.name}` is not open")
        return self._account

    def _seconds(self, order: MintOrder) -> int:
        left = int(((order.until or order.expires) - self._now()).total_seconds())
        return min(max(left, SHORTEST_SECONDS), LONGEST_SECONDS)

    async def _make(self, order: MintOrder) -> dict[str, str]:
        """The role of the lease, new or as an earlier attempt left it; returns its tags."""
        path, boundary = path_of(instance_of([order.principal])), self._settings.boundary
        made = await self._opened.create_role(
            order.principal,
            path=path,
            trust=trust(self._arn, order),
            boundary=boundary,
            seconds=max(self._seconds(order), _LONGEST_ROLE),
            about="a lease of Remit",
            tags=role_tags(order),
        )
        if made:
            return {}
        found = await self._opened.role(order.principal)
        if found is None:
            raise Unavailable("access.aws.unsettled", f"IAM does not know `{order.principal}` yet")
        if (found.path, found.boundary, found.tags.get(PRINCIPAL)) != (path, boundary, order.principal):
            raise Conflict("access.aws.taken", f"`{order.principal}` is there, and is not ours")
        return dict(found.tags)

    async def _become(self, order: MintOrder, mapped: Mapped, arn: str) -> str:
        """Become the role as soon as IAM lets us, and let the session rest sealed in its tags."""
        account, values = self._opened, asking(order, mapped, arn, self._seconds(order))
        got = await _until(
            lambda: account.assume(arn, values, tags=session_tags(order)),
            lambda answer: isinstance(answer, Session),
            _SETTLES_WITHIN,
        )
        if not isinstance(got, Session):
            raise got.error()
        sealed = seal(got, order.secret, order.principal, self._randomness(12))
        await account.tag(order.principal, sealed_tags(sealed))
        return sealed

    def _tell(self, order: MintOrder, region: str, arn: str, sealed: str, session: Session) -> dict[str, str]:
        settings = self._settings
        told = {"account": settings.account, "region": region, "user": order.principal, "role_arn": arn}
        told |= {"sealed": sealed, "expires": session.expires}
        told |= {"endpoint": settings.endpoint} if settings.endpoint else {}
        return told | ({"ca": settings.ca} if settings.ca else {})

    async def _end(self, account: Account, order: RevokeOrder) -> bool:
        """Nobody becomes the role any more, and its sessions may do nothing. Whether there is one."""
        role = await account.role(order.principal)
        if role is None:
            return False
        if role.path != path_of(instance_of([order.principal])):
            raise Conflict("access.aws.taken", f"`{order.principal}` is there, and is not ours")
        session = unseal(sealed_in(role.tags), order.secret, order.principal)
        if session is not None:
            while len(self._struck) >= _REMEMBERED:
                self._struck.pop(next(iter(self._struck)))
            self._struck[order.principal] = session
        await account.trust(order.principal, closed(self._arn))
        return await account.put_policy(order.principal, ENDED, ended())

    async def _finish(self, account: Account, order: RevokeOrder, *, existed: bool) -> Revocation:
        session, proof = self._struck.get(order.principal), None
        if existed and session is not None:
            proof = await self._refused(account, order.principal, session)
        gone = await self._delete(account, order.principal)
        if not gone:
            proof = Unproved(why="the role cannot be deleted: something hangs on it")
        elif proof is None:
            proof = await self._absent(account, order.principal, session)
        elif session is not None:
            proof = await self._still(account, order.principal, session, proof)
        if isinstance(proof, Proved):
            self._struck.pop(order.principal, None)
        return Revocation(
            principal=order.principal, gone=gone, sessions_ended=0, proof=proof, left_behind=(_LEFT,) if existed else ()
        )

    async def _refused(self, account: Account, principal: str, session: Session) -> Proof:
        """The session is refused what the broker gets from the same role."""
        tried = await _until(lambda: account.look(principal, session.keys), _was_refused, _REFUSED_WITHIN)
        if not tried.refused:
            return Unproved(why=f"AWS still admits the session: {_words(tried)}")
        control = await account.look(principal)
        if control.code:
            return Unproved(why=f"the control was refused too: {_words(control)}")
        return Proved(refusal=_words(tried), control=f"{control.action} as {self._arn}")

    async def _still(self, account: Account, principal: str, session: Session, proof: Proof) -> Proof:
        """The role is gone: the session must be refused for itself, and not for want of a role to look at."""
        within = _REFUSED_WITHIN if isinstance(proof, Proved) else _LOOK_AGAIN
        tried = await _until(lambda: account.look(principal, session.keys), _was_refused, within)
        if not tried.refused:
            return Unproved(why=f"the role is gone, and AWS still admits its session: {_words(tried)}")
        if isinstance(proof, Proved):
            return proof
        return await self._absent(account, principal, session)

    async def _absent(self, account: Account, principal: str, session: Session | None) -> Proof:
        """The role is not there: proved by its session where that is known, else by its absence."""
        # A role that is not there is no question that the session would be allowed: only who it is.
        tried = await account.caller(session.keys if session is not None else UNKNOWN)
        if not tried.refused:
            what = "its session" if session is not None else "anyone"
            return Unproved(why=f"the role is gone, and AWS admits {what}: {_words(tried)}")
        control = await account.caller()
        if control.code:
            return Unproved(why=f"the control was refused too: {_words(control)}")
        absent = "" if session is not None else "NoSuchEntity its role is not there; of an unknown key: "
        return Proved(refusal=f"{absent}{_words(tried)}", control=f"{control.action} as {self._arn}")

    async def _delete(self, account: Account, principal: str) -> bool:
        """The rights go first and the denial last; then the role. Whether it is gone."""
        until = asyncio.get_running_loop().time() + _REFUSED_WITHIN
        while True:
            for arn in await account.attached(principal):
                await account.detach(principal, arn)
            for policy in sorted(await account.inline(principal), key=lambda name: name == ENDED):
                await account.delete_policy(principal, policy)
            if await account.delete_role(principal) and await account.role(principal) is None:
                return True
            if asyncio.get_running_loop().time() > until:
                return False
            await asyncio.sleep(_LOOK_AGAIN)


def _admitted(answer: Answer) -> bool:
    return not answer.code


def _was_refused(answer: Answer) -> bool:
    return answer.refused


def _words(answer: Answer) -> str:
    return f"{answer.code} {answer.message}".strip() if answer.code else f"{answer.action} was answered"


async def _until(ask: Callable[[], Awaitable[_T]], enough: Callable[[_T], bool], seconds: float) -> _T:
    """Ask until it is enough, for so long; the last answer."""
    until, wait = asyncio.get_running_loop().time() + seconds, _LOOK_AGAIN
    while not enough(answer := await ask()) and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(wait)
        wait = min(wait * 2, 2.0)
    return answer


async def _all(works: Iterable[Awaitable[_T]]) -> list[_T]:
    """What each gave, when the last has ended; then the first error of any."""
    done = await asyncio.gather(*works, return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return [each for each in done if not isinstance(each, BaseException)]


class AwsBrokerFactory:
    """The plug-in."""

    id = "aws"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> AwsBroker:
        """A broker for `target`; nothing is opened yet."""
        return AwsBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `aws://ACCESS-KEY-ID@ACCOUNT[/REGION]`."""
        return read_location(
            url,
            schemes={"aws": 443},
            database="us-east-1",
            parameters=frozenset({"endpoint"}),
            write_as="aws://ACCESS-KEY-ID@ACCOUNT/REGION",
        )

    def present(self, credential: Credential) -> Presentation:
        """A profile in private files, as every SDK and the command line read them."""
        settings = credential.settings
        session = unseal(settings.get("sealed", ""), credential.secret, settings.get("user", ""))
        if session is None:
            session = Session(keys=Keys(id="", secret=""), expires="")
        keys, profile = session.keys, f"{credential.target}-{credential.role}"
        region = settings.get("region", "")
        return Presentation(
            variables={"AWS_PROFILE": profile, "AWS_REGION": region, "AWS_DEFAULT_REGION": region},
            secrets={
                "AWS_ACCESS_KEY_ID": keys.id,
                "AWS_SECRET_ACCESS_KEY": keys.secret,
                "AWS_SESSION_TOKEN": keys.token,
            },
            files=credential_files(profile, session, settings),
            pointers={"AWS_SHARED_CREDENTIALS_FILE": "aws-credentials", "AWS_CONFIG_FILE": "aws-config"},
            stale=_STALE,
            withheld=True,
        )


_STALE: Final = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE"),
    *("AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CREDENTIAL_EXPIRATION"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_IAM"),
    *("AWS_ENDPOINT_URL_S3", "AWS_BEARER_TOKEN_BEDROCK"),
)
