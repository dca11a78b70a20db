"""OpenBao: a token for each lease, under one role's policies; what an engine gives is read with it and ends with it.

The order of a mint: a token whose id is the lease's secret, with the principal's name on it → the engine's path is read
with that token → what it gave is kept in the token's own cubbyhole, so that the same order again is the same
credential, and a restarted Remit knows which engine's lease to watch.

The order of a revocation: the token is revoked by its accessor, and OpenBao ends what hangs on it → the engine's lease
is looked up until it is gone → no token bears the name any more → the secret is refused (403) when it looks at itself,
while the broker's own token is let in the same way. A sealed or silent OpenBao refuses everybody: that is no proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from remit.access.brokers.batch import every
from remit.access.brokers.location import Location, read_location
from remit.access.brokers.openbao_settings import (
    CUBBYHOLE,
    LEASE_POLICY,
    MANIFEST,
    Rights,
    decode_options,
    decode_role,
)
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.brokers.refusals import not_open, require_mapped
from remit.access.model import (
    LeftBehind,
    Minted,
    MintOrder,
    Proof,
    Proved,
    Revocation,
    RevokeOrder,
    Target,
    Unproved,
)
from remit.kernel.clock import Clock, SystemClock
from remit.kernel.errors import Conflict, Rejected, RemitError
from remit.providers.openbao.client import AppRoleAuth, OpenBao, TokenAuth
from remit.providers.openbao.tokens import Read, Tokens, Tried

_T = TypeVar("_T")
_AT_ONCE = 16
_GONE_WITHIN = timedelta(seconds=8)
_LOOK_AGAIN = 0.05
_WITHOUT_GRANT = timedelta(hours=1)
"""The hard end of a token where no grant says one."""
_LEASE, _READING = "remit_lease", "remit_reading"
_PREFIX = "data_"
_NEEDED = {
    "auth/token/create/{role}": {"update", "sudo"},
    "auth/token/roles/{role}": {"read"},
    "auth/token/accessors": {"list", "sudo"},
    "auth/token/lookup-accessor": {"update"},
    "auth/token/renew-accessor": {"update"},
    "auth/token/revoke-accessor": {"update"},
    "sys/leases/lookup": {"update"},
    "sys/leases/renew": {"update"},
}
_TOO_MUCH = ("auth/token/create", "sys/policies/acl/remit-probe", "sys/auth/remit-probe", "sys/mounts/remit-probe")


class OpenBaoBroker:
    """Mints, renews, revokes, proves and sweeps on one OpenBao."""

    def __init__(
        self, target: Target, secret: str, *, patience: timedelta = _GONE_WITHIN, clock: Clock | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._patience = patience.total_seconds()
        self._settings = decode_options(target)
        self._target = target
        raw = secret.encode()
        self._auth = (
            AppRoleAuth(role_id=target.user, secret_id=lambda: raw, mount=self._settings.auth_mount)
            if target.user
            else TokenAuth(token=lambda: raw)
        )
        self._bao: OpenBao | None = None
        self._tokens: Tokens | None = None
        self._leases: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"OpenBaoBroker({self._target.host}:{self._target.port})"

    async def open(self) -> None:
        """Sign in and look at ourselves; `Unavailable`, or `Misconfigured` for a login that does not hold."""
        await self.close()
        bao = OpenBao(self._settings.address, self._auth, ca_file=self._settings.ca or None)
        tokens = Tokens(bao, self._settings.token_role)
        try:
            await tokens.itself()
        except BaseException:
            await bao.close()
            raise
        self._bao, self._tokens = bao, tokens

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        bao, self._bao, self._tokens = self._bao, None, None
        if bao is not None:
            await bao.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Make the token, let it look at itself, and read the engine's path with it."""
        instance_of([order.principal])
        require_mapped(self._target, order.role, "RIGHTS")
        if order.database:
            raise Rejected(
                "access.openbao.database", "OpenBao knows no databases", next_step="leave it out of the need"
            )
        rights, tokens = decode_role(order.role), self._opened
        now = self._clock.now()
        made = await tokens.create(
            order.secret,
            order.principal,
            policies=(LEASE_POLICY, *rights.policies),
            seconds=_seconds(order.expires - now),
            longest=_seconds((order.until or order.expires + _WITHOUT_GRANT) - now),
            label=order.label,
        )
        tried = await tokens.try_token(order.secret)
        _require_ours(tried, order, rights, made=made)
        where = {"address": self._settings.address, "user": order.principal}
        where |= {"ca": self._settings.ca} if self._settings.ca else {}
        if not rights.path:
            return Minted(principal=order.principal, settings={**where, "kind": "token"})
        given = await self._read(tokens, order, rights)
        return Minted(principal=order.principal, settings={**given, **where, "kind": "secret", "path": rights.path})

    async def _read(self, tokens: Tokens, order: MintOrder, rights: Rights) -> Mapping[str, str]:
        kept = await tokens.kept(order.secret, CUBBYHOLE)
        if _LEASE not in kept:
            await tokens.keep(order.secret, CUBBYHOLE, {_READING: rights.path})
            read = await tokens.read(order.secret, rights.path, rights.body)
            kept = _kept(read)
            self._leases[order.principal] = read.lease
            await tokens.keep(order.secret, CUBBYHOLE, kept)
        return {key: value for key, value in kept.items() if key.startswith(_PREFIX)}

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Move the end of tokens and of what was read with them; one whose end is past is revoked, and not named."""
        if not principals:
            return []
        instance_of(principals)
        tokens, now = self._opened, self._clock.now().timestamp()
        marked = await tokens.marked()
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> bool:
            async with gate:
                token = marked.get(name)
                if token is None:
                    return False
                # OpenBao forgets the hard end of a token that was made by a role when it renews it (2.7.2).
                seconds = min(expires.timestamp(), token.ends or expires.timestamp()) - now
                if seconds <= 0:
                    await tokens.revoke(token.accessor)
                    return False
                if not await tokens.renew(token.accessor, max(1, round(seconds))):
                    return False
                return await self._renew_lease(tokens, name, max(1, round(seconds)))

        kept = await asyncio.gather(*(one(name) for name in principals))
        return [name for name, still in zip(principals, kept, strict=True) if still]

    async def _renew_lease(self, tokens: Tokens, name: str, seconds: int) -> bool:
        """Whether what was read still holds; engines that let nothing be renewed keep their own end."""
        lease = self._leases.get(name, "")
        if not lease:
            return True
        try:
            await tokens.renew_lease(lease, seconds)
        except Rejected:
            return await tokens.has_lease(lease)
        return True

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them, and prove each; what OpenBao did not carry out says `gone=False` and why."""
        if not orders:
            return []
        instance_of([order.principal for order in orders])
        tokens, gate = self._opened, asyncio.Semaphore(_AT_ONCE)
        marked = await tokens.marked()

        async def end(order: RevokeOrder) -> _Work:
            async with gate:
                token = marked.get(order.principal)
                return await self._end(tokens, order, token.accessor if token is not None else "")

        works = await every([end(order) for order in orders])
        left = await tokens.marked()
        # The control: our own token, the same look, after everything was ended.
        await tokens.itself()

        async def report(order: RevokeOrder, work: _Work) -> Revocation:
            async with gate:
                return await self._report(tokens, order, work, still=order.principal in left)

        return await every([report(order, work) for order, work in zip(orders, works, strict=True)])

    async def _end(self, tokens: Tokens, order: RevokeOrder, accessor: str) -> _Work:
        work = _Work(started=asyncio.get_running_loop().time())
        kept = await tokens.kept(order.secret, CUBBYHOLE) if accessor else {}
        work.lease = kept.get(_LEASE, "") or self._leases.get(order.principal, "")
        work.reading = kept.get(_READING, "")
        if accessor:
            work.stuck = await tokens.revoke(accessor)
        if work.lease:
            # The token is gone, and with it its cubbyhole: from here on only we know what to look for.
            self._leases[order.principal] = work.lease
            await self._await_gone(tokens, work)
        return work

    async def _await_gone(self, tokens: Tokens, work: _Work) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self._patience
        while await tokens.has_lease(work.lease):
            if clock() > until:
                work.stuck = f"OpenBao has not ended `{work.lease[:100]}`: its engine could not revoke it"
                return
            await asyncio.sleep(_LOOK_AGAIN)
        work.stuck = ""

    async def _report(self, tokens: Tokens, order: RevokeOrder, work: _Work, *, still: bool) -> Revocation:
        stuck = work.stuck or ("a token still bears the name" if still else "")
        tried = await tokens.try_token(order.secret)
        proof: Proof
        if stuck:
            proof = Unproved(why=stuck)
        elif tried.admitted:
            proof = Unproved(why="OpenBao still admits the token")
        else:
            self._leases.pop(order.principal, None)
            proof = Proved(refusal=tried.words, control="the broker's own token looked at itself")
        return Revocation(
            principal=order.principal,
            gone=not stuck,
            sessions_ended=0,
            proof=proof,
            left_behind=_left_behind(work),
            duration=timedelta(seconds=asyncio.get_running_loop().time() - work.started),
        )

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation whose tokens exist."""
        return of_instance(await self._opened.marked(), instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says: it answers, our policy is enough and no more, the token role holds leases down."""
        try:
            tokens = self._opened
            await tokens.itself()
            wrong = await tokens.try_token("remit-nobody-0000000000000000000000000000000")
            return [
                Check(ok=True, title="the server answers", detail=self._settings.address),
                Check(ok=not wrong.admitted, title="tokens are checked",
                      detail="an unknown token was admitted" if wrong.admitted else "an unknown token was refused",
                      next_step="a proxy puts its own token in: name the server itself"),
                await self._check_policy(tokens),
                await self._check_role(tokens),
                Check(ok=False, title="live sessions end when Remit is dead",
                      detail="not fail-safe: OpenBao ends accounts, and not the sessions of those",
                      next_step="name the system behind as a target of its own where that counts"),
            ]  # fmt: skip
        except RemitError as error:
            return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]

    async def _check_policy(self, tokens: Tokens) -> Check:
        role = self._settings.token_role
        needed = {path.format(role=role): capabilities for path, capabilities in _NEEDED.items()}
        found = await tokens.capabilities([*needed, *_TOO_MUCH])
        too_much = [path for path in _TOO_MUCH if found[path] - {"deny"}]
        missing = [path for path, wanted in needed.items() if "root" not in found[path] and wanted - found[path]]
        detail = (
            f"it may not: {', '.join(missing)}"
            if missing
            else f"more than is needed: {', '.join(too_much)}"
            if too_much
            else "enough, and no more"
        )
        next_step = "give the broker the policy `remit-broker` alone: docs/plugins.md has it"
        return Check(ok=not missing and not too_much, title="the broker's policy", detail=detail, next_step=next_step)

    async def _check_role(self, tokens: Tokens) -> Check:
        role = await tokens.role()
        wanted = {LEASE_POLICY, *(each for text in self._target.roles.values() for each in decode_role(text).policies)}
        allowed = set(role.get("allowed_policies") or ())
        wrong = [
            *(f"it lacks the policy `{each}`" for each in sorted(wanted - allowed)),
            *(f"it allows `{each}`, which no role here uses" for each in sorted(allowed - wanted)),
            *(["it allows policies by pattern"] if role.get("allowed_policies_glob") else []),
            *([] if role.get("orphan") else ["its tokens die with the broker's login: `orphan=true`"]),
            *([] if role.get("renewable") else ["its tokens cannot be renewed: `renewable=true`"]),
            *([] if role.get("token_no_default_policy") else ["it adds `default`: `token_no_default_policy=true`"]),
            *([] if role.get("token_explicit_max_ttl") else ["it knows no hard end: `token_explicit_max_ttl=24h`"]),
            *(["its tokens never end: no `token_period`"] if role.get("token_period") else []),
            *(["batch tokens cannot be revoked: `token_type=service`"] if role.get("token_type") == "batch" else []),
        ]
        title = f"the token role `{self._settings.token_role}`"
        detail = "; ".join(wrong) or "it holds leases to their policies"
        return Check(ok=not wrong, title=title, detail=detail, next_step="see docs/plugins.md" if wrong else "")

    @property
    def _opened(self) -> Tokens:
        if self._tokens is None:
            raise not_open(self._target)
        return self._tokens


@dataclass(slots=True, kw_only=True)
class _Work:
    """What one revocation has found and done so far."""

    started: float
    lease: str = ""
    reading: str = ""
    """The path of a mint that was broken off before the engine's lease was noted."""
    stuck: str = ""


def _seconds(life: timedelta) -> int:
    return max(1, round(life.total_seconds()))


def _require_ours(tried: Tried, order: MintOrder, rights: Rights, *, made: bool) -> None:
    """A token of this id may be there already: it is the same order, or none of ours."""
    token = tried.token
    if not tried.admitted or token is None:
        if not made:
            raise Conflict("access.lease.revoking", "the credential is being revoked")
        raise Rejected("access.lease.login", f"the new credential does not work: {tried.words}")
    if token.name != order.principal or set(token.policies) != {LEASE_POLICY, *rights.policies}:
        raise Rejected(
            "access.openbao.token",
            "the lease's token has other policies than its role",
            next_step="set `token_no_default_policy=true` and no `token_bound…` extras on the token role",
        )


def _kept(read: Read) -> Mapping[str, str]:
    return {**{f"{_PREFIX}{key}": value for key, value in read.data.items()}, _LEASE: read.lease}


def _left_behind(work: _Work) -> tuple[LeftBehind, ...]:
    if work.reading and not work.lease:
        return (LeftBehind(what=f"what a mint that was broken off read from `{work.reading}`", fate="not seen"),)
    if not work.lease:
        return ()
    return (LeftBehind(what=f"live sessions that `{work.lease[:100]}` opened behind OpenBao", fate="not seen"),)


class OpenBaoBrokerFactory:
    """The plug-in."""

    id = "openbao"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> OpenBaoBroker:
        """A broker for `target`; nothing is opened yet."""
        return OpenBaoBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `openbao://[ROLE_ID@]HOST[:PORT]`: with a role id, the secret is that AppRole's secret id."""
        return read_location(
            url,
            schemes={"openbao": 8200},
            parameters=frozenset({"ca", "tls", "token_role", "auth_mount"}),
            user="",
            write_as="openbao://HOST:PORT, or openbao://ROLE_ID@HOST:PORT",
        )

    def present(self, credential: Credential) -> Presentation:
        """For `bao` a token file; of an engine what it gave, a variable and a line of an env file for each field."""
        settings = credential.settings
        stem = f"{credential.target}-{credential.role}"
        where = {"BAO_ADDR": settings.get("address", ""), "VAULT_ADDR": settings.get("address", "")}
        where |= {"BAO_CACERT": settings["ca"], "VAULT_CACERT": settings["ca"]} if "ca" in settings else {}
        stale = ("BAO_TOKEN", "VAULT_TOKEN", "BAO_ADDR", "VAULT_ADDR", "BAO_NAMESPACE", "VAULT_NAMESPACE")
        if settings.get("kind") == "token":
            return Presentation(
                variables=where,
                secrets={"BAO_TOKEN": credential.secret, "VAULT_TOKEN": credential.secret},
                files={f"{stem}.token": credential.secret},
                pointers={"BAO_TOKEN_FILE": f"{stem}.token"},
                stale=stale,
            )
        given = {key.removeprefix(_PREFIX): value for key, value in settings.items() if key.startswith(_PREFIX)}
        return Presentation(
            secrets={f"OPENBAO_{key.upper()}": value for key, value in given.items()},
            files={f"{stem}.{_file(key)}": value for key, value in given.items()},
            pointers={f"OPENBAO_{key.upper()}_FILE": f"{stem}.{_file(key)}" for key in given},
            stale=(*stale, *(f"OPENBAO_{key.upper()}" for key in given)),
            withheld=True,
        )


def _file(key: str) -> str:
    return "".join(each if each.isalnum() else "-" for each in key)[:64]
