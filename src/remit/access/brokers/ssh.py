"""OpenSSH: a user certificate for each lease, admitted by a helper on the host, and revoked with all that it runs.

The certificate names the end of its grant; the host admits it only while its lease stands in the helper's book, whose
expiry renewals move. The order of a revocation, on every host of the target: it is written in the book and in the
list of revoked certificates (new logins stop) → its connections and all that they started are stopped and killed,
until none is left → a login by the same key and serial, not expired, is refused, while a fresh certificate of the
same authority is admitted to the same account.

Spec: OpenSSH PROTOCOL.certkeys and PROTOCOL.krl; sshd_config(5), AuthorizedPrincipalsCommand, RevokedKeys.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from remit.access.brokers.batch import every
from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import DIRECTORY, Credential, Presentation
from remit.access.brokers.principals import instance_of, issued_at, of_instance
from remit.access.brokers.proof import judge
from remit.access.brokers.refusals import not_mapped, not_open
from remit.access.brokers.ssh_script import install_script
from remit.access.brokers.ssh_settings import MANIFEST, Role, decode_options, forced_command
from remit.access.model import Minted, MintOrder, Proof, Revocation, RevokeOrder, Target, Unproved
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Conflict, Misconfigured, Rejected, RemitError
from remit.kernel.ids import ulid
from remit.providers.ssh.certificates import (
    Certificate,
    fingerprint,
    private_text,
    public_line,
    read_keys,
    serial_of,
    user_key,
)
from remit.providers.ssh.client import Admin, Attempt, Host, login

_CLOCK = SystemClock()
_BACKDATED = 30
_PROBE_SECONDS = 120
_LOGINS_AT_ONCE = 4
"""sshd begins to drop connections that have not logged in at 10 (`MaxStartups`)."""
_UNKNOWN_KEPT = 7 * 86400
"""Seconds for which a lease is kept revoked whose end is not known: it was never minted."""
_CHECKING = "remitchk"
"""The installation that probes of `check` are of."""


class SshBroker:
    """Mints, renews, revokes, proves and sweeps on one host, or on several that are used as one."""

    def __init__(
        self,
        target: Target,
        secret: str,
        *,
        now: Callable[[], datetime] = _CLOCK.now,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = decode_options(target)
        self._keys = read_keys(secret)
        self._target = target
        self._now = now
        self._randomness = randomness
        self._admins: tuple[Admin, ...] = ()
        self._gate = asyncio.Semaphore(_LOGINS_AT_ONCE)

    def __repr__(self) -> str:
        return f"SshBroker({', '.join(str(host) for host in self._settings.hosts)})"

    async def open(self) -> None:
        """Log in to every host as its administrator; the helper need not be there yet."""
        await self.close()
        keys, helper = self._keys, self._settings.helper
        admins = tuple(
            Admin(host=host, user=self._target.user, key=keys.admin, helper=helper) for host in self._settings.hosts
        )
        try:
            await every(admin.open() for admin in admins)
        except BaseException:
            await asyncio.gather(*(admin.close() for admin in admins))
            raise
        self._admins = admins

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        admins, self._admins = self._admins, ()
        await asyncio.gather(*(admin.close() for admin in admins))

    async def mint(self, order: MintOrder) -> Minted:
        """Write the lease in every host's book, sign its certificate, and log in with it once everywhere."""
        instance_of([order.principal])
        role = self._settings.roles.get(order.role)
        if role is None:
            raise not_mapped(self._target, order.role, "ACCOUNT")
        if order.database:
            raise Rejected("access.ssh.database", "hosts have no databases", next_step="leave it out of the need")
        until = order.until or order.expires
        entry = self._entry(order.principal, role.account, order.secret, expires=order.expires, until=until)
        for said in await self._ask({"verb": "put", "leases": [entry]}):
            _check_put(said["said"][0], role.account, self._target.name)
        certificate = self._certificate(order.principal, role, int(until.timestamp()))
        text = certificate.signed(self._keys.authority, user_key(order.secret))
        tried = await self._log_in(self._settings.hosts, role.account, order.secret, text)
        if refused := [one.words for one in tried if not one.admitted]:
            raise Rejected(
                "access.lease.login",
                f"the new credential does not work: {refused[0]}",
                next_step="`remit doctor` says what is missing on the host",
            )
        await self._ask({"verb": "settle", "names": [order.principal]})
        hosts = self._settings.hosts
        return Minted(
            principal=order.principal,
            settings={
                "host": hosts[0].name,
                "port": str(hosts[0].port),
                "user": role.account,
                "hosts": ",".join(f"{host.name} {host.port}" for host in hosts),
                "certificate": text,
                "known_hosts": "".join(host.known_hosts for host in hosts),
            },
        )

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Move the expiry in every host's book; the certificate itself stays."""
        if not principals:
            return []
        instance_of(principals)
        request = {"verb": "renew", "names": list(principals), "expires": int(expires.timestamp())}
        kept = [set(said["kept"]) for said in await self._ask(request)]
        return [name for name in principals if all(name in one for one in kept)]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them by one new list on every host, end what they run, and prove each on every host."""
        if not orders:
            return []
        clock = asyncio.get_running_loop().time
        started = clock()
        instance = instance_of([order.principal for order in orders])
        work = await every(self._revoke_on(admin, orders, instance) for admin in self._opened)
        duration = timedelta(seconds=clock() - started)
        return [
            Revocation(
                principal=order.principal,
                gone=not any(host.orders[order.principal]["left"] for host in work),
                sessions_ended=sum(int(host.orders[order.principal]["ended"]) for host in work),
                proof=_joined([host.proofs[order.principal] for host in work]),
                duration=duration,
            )
            for order in orders
        ]

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that a host may admit, or that run something there."""
        said = await self._ask({"verb": "list"})
        return of_instance({name for one in said for name in one["names"]}, instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target; the last line is tried with a certificate made for it."""
        found: list[Check] = []
        for admin in self._admins:
            try:
                found += await self._check_host(admin)
            except RemitError as error:
                title = f"the helper on {admin.host} answers"
                found.append(Check(ok=False, title=title, detail=error.message, next_step=error.next_step))
        if roots := [text for text, role in self._settings.roles.items() if role.account == "root"]:
            found.append(
                Check(
                    ok=False,
                    title="no role logs in as root",
                    detail=f"the role `{roots[0][:60]}` does",
                    next_step="give tasks an account of their own",
                )
            )
        return found or [Check(ok=False, title="the host answers", detail="it is not open")]

    def install_script(self, instance: str) -> str:
        """What root runs on each host, once and after roles were added."""
        accounts = sorted({role.account for role in self._settings.roles.values()})
        return install_script(self._settings, public_line(self._keys.authority), accounts)

    async def install(self, instance: str) -> Sequence[str]:
        """Run the script on every host as the target's administrator, who must still have a shell of root's there."""
        script = self.install_script(instance)
        for admin in self._opened:
            said, trouble = await admin.run("/bin/sh -s", script)
            if "remit: installed" not in said:
                raise Misconfigured(
                    "access.ssh.install",
                    f"`{admin.host}` could not be prepared: {(trouble or said).strip()[-200:] or 'no answer'}",
                    next_step=f"run it there as root: `remit target install {self._target.name} --print`",
                )
        return [str(host) for host in self._settings.hosts]

    @property
    def _opened(self) -> tuple[Admin, ...]:
        if not self._admins:
            raise not_open(self._target)
        return self._admins

    async def _ask(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        return await every(admin.ask(request) for admin in self._opened)

    def _entry(
        self, principal: str, account: str, secret: str, *, expires: datetime, until: datetime
    ) -> dict[str, Any]:
        return {
            "principal": principal,
            "account": account,
            "serial": serial_of(principal),
            "fingerprint": fingerprint(user_key(secret)),
            "expires": int(expires.timestamp()),
            "until": int(until.timestamp()),
        }

    def _certificate(self, principal: str, role: Role, before: int) -> Certificate:
        critical = {"force-command": forced_command(self._settings, principal, role)}
        if role.sources:
            critical["source-address"] = ",".join(role.sources)
        return Certificate(
            principal=principal,
            after=issued_at(principal) - _BACKDATED,
            before=before,
            critical=critical,
            extensions=role.extensions,
        )

    async def _log_in(self, hosts: Sequence[Host], account: str, secret: str, certificate: str) -> list[Attempt]:
        async def attempt(host: Host) -> Attempt:
            async with self._gate:
                return await login(host, account, private_text(user_key(secret)), certificate)

        return await every(attempt(host) for host in hosts)

    async def _try(self, host: Host, account: str, principal: str, secret: str) -> Attempt:
        """A login with a certificate that is good from now on, and whose sessions can do nothing."""
        now = int(self._now().timestamp())
        certificate = Certificate(
            principal=principal,
            after=now - _BACKDATED,
            before=now + _PROBE_SECONDS,
            critical={"force-command": "/bin/false"},
        )
        text = certificate.signed(self._keys.authority, user_key(secret))
        return (await self._log_in([host], account, secret, text))[0]

    def _probe(self, instance: str, account: str) -> _Probe:
        now = self._now()
        principal, secret = f"remit_{instance}_{ulid(now).lower()}", self._randomness(32).hex()
        soon = now + timedelta(seconds=_PROBE_SECONDS)
        entry = self._entry(principal, account, secret, expires=soon, until=soon)
        return _Probe(principal=principal, account=account, secret=secret, entry=entry)

    async def _revoke_on(self, admin: Admin, orders: Sequence[RevokeOrder], instance: str) -> _Work:
        said = (await admin.ask(self._strike([order.principal for order in orders])))["orders"]
        first = next(iter(self._settings.roles.values())).account
        account_of = {order.principal: said[order.principal]["account"] or first for order in orders}
        probes = {account: self._probe(instance, account) for account in sorted(set(account_of.values()))}
        put = await admin.ask({"verb": "put", "leases": [probe.entry for probe in probes.values()]})
        usable = {probe.account: said == "ok" for probe, said in zip(probes.values(), put["said"], strict=True)}
        try:
            # The control is in all the same as what must be refused, but for its key and name.
            control = {
                account: await self._try(admin.host, account, probe.principal, probe.secret)
                for account, probe in probes.items()
                if usable[account]
            }
            tried = await every(
                self._try(admin.host, account_of[order.principal], order.principal, order.secret) for order in orders
            )
        finally:
            await admin.ask(self._strike([probe.principal for probe in probes.values()], _PROBE_SECONDS))
        proofs = {
            order.principal: _judge(said[order.principal]["left"], attempt, control.get(account_of[order.principal]))
            for order, attempt in zip(orders, tried, strict=True)
        }
        return _Work(orders=said, proofs=proofs)

    def _strike(self, principals: Sequence[str], kept: int = _UNKNOWN_KEPT) -> dict[str, Any]:
        orders = [{"principal": principal, "serial": serial_of(principal)} for principal in principals]
        return {"verb": "revoke", "orders": orders, "until": int(self._now().timestamp()) + kept}

    async def _check_host(self, admin: Admin) -> list[Check]:
        said = await admin.ask({"verb": "hello"})
        wanted = {role.account for role in self._settings.roles.values()}
        missing = sorted(wanted - set(said["accounts"]))
        again = f"`remit target install {self._target.name} --print` shows what root must run on {admin.host}"
        found = [
            Check(ok=True, title=f"the helper on {admin.host} answers"),
            Check(
                ok=said["authority"] == public_line(self._keys.authority),
                title="it admits certificates of this target's authority",
                next_step=again,
            ),
            Check(
                ok=not missing,
                title="its accounts are those of the roles",
                detail=f"`{missing[0]}` is not among them" if missing else "",
                next_step=again,
            ),
            Check(
                ok=abs(int(said["time"]) - self._now().timestamp()) < _BACKDATED,
                title="its clock is ours",
                next_step="set both by NTP: certificates are good for minutes",
            ),
            Check(
                ok=bool(said["root"]),
                title="sessions end when Remit is dead",
                detail="" if said["root"] else "the helper is not root",
                next_step=again,
            ),
            Check(
                ok=bool(said["marked"]),
                title="login sessions are marked by PAM",
                detail="" if said["marked"] else "what a task gave to at, cron or sudo is not found",
                next_step="set `UsePAM yes` in sshd_config, with pam_loginuid or pam_systemd",
            ),
        ]
        if all(check.ok for check in found[:3]):
            found.append(await self._trial(admin, sorted(wanted)[0], again))
        return found

    async def _trial(self, admin: Admin, account: str, again: str) -> Check:
        """A certificate that is admitted, and refused after it was revoked."""
        probe = self._probe(_CHECKING, account)
        await admin.ask({"verb": "put", "leases": [probe.entry]})
        try:
            before = await self._try(admin.host, account, probe.principal, probe.secret)
        finally:
            await admin.ask(self._strike([probe.principal], _PROBE_SECONDS))
        after = await self._try(admin.host, account, probe.principal, probe.secret)
        words = f"it does not: {before.words}" if not before.admitted else "it does, and after its revocation too"
        ok = before.admitted and not after.admitted
        return Check(
            ok=ok, title="sshd admits a lease until it is revoked", detail="" if ok else words, next_step=again
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """A lease of nobody's, to show that the way is open."""

    principal: str
    account: str
    secret: str = field(repr=False)
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What one host says of a revocation."""

    orders: dict[str, Any]
    proofs: dict[str, Proof]


def _judge(left: bool, tried: Attempt, control: Attempt | None) -> Proof:
    if left:
        return Unproved(why="something that it started would not end")
    if control is None and not tried.admitted:
        return Unproved(why="the account may not be used by leases any more: there is no control")
    shown = "login to the same account by a fresh certificate of the same authority"
    return judge([tried], [control] if control else [], control=shown, where="the host")


def _joined(proofs: Sequence[Proof]) -> Proof:
    return next((proof for proof in proofs if isinstance(proof, Unproved)), proofs[0])


def _check_put(said: str, account: str, target: str) -> None:
    if said == "gone":
        raise Conflict("access.lease.revoking", "the credential is being revoked")
    if said != "ok":
        raise Rejected(
            "access.ssh.account",
            f"the host has no account `{account}` for leases",
            next_step=f"make the account, and run `remit target install {target}` again",
        )


class SshBrokerFactory:
    """The plug-in."""

    id = "ssh"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> SshBroker:
        """A broker for `target`; nothing is opened yet."""
        try:
            import asyncssh  # noqa: F401
        except ImportError:
            raise Misconfigured(
                "access.ssh.driver", "the driver for SSH is not installed", next_step="pip install 'remit[ssh]'"
            ) from None
        return SshBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `ssh://ADMIN@HOST[:PORT]`."""
        return read_location(url, schemes={"ssh": 22}, write_as="ssh://ADMIN@HOST:PORT")

    def present(self, credential: Credential) -> Presentation:
        """A configuration of ssh with a key, its certificate and the hosts' keys beside it; scp and git use it too."""
        settings = credential.settings
        name = f"{credential.target}-{credential.role}"
        files = {
            "ssh_config": _config(credential, name),
            f"{name}.key": private_text(user_key(credential.secret)),
            f"{name}.key-cert.pub": settings.get("certificate", "") + "\n",
            f"{name}.known_hosts": settings.get("known_hosts", ""),
        }
        return Presentation(
            # Read by a shell, which knows the pointer.
            variables={"GIT_SSH_COMMAND": 'ssh -F "$REMIT_SSH_CONFIG"'},
            files=files,
            pointers={"REMIT_SSH_CONFIG": "ssh_config"},
            stale=("SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "REMIT_SSH_CONFIG"),
        )


def _config(credential: Credential, name: str) -> str:
    """The host by the target's name, by target and role, and each host by its own name."""
    settings = credential.settings
    common = {
        "User": settings.get("user", ""),
        "IdentityFile": f'"{DIRECTORY}/{name}.key"',
        "CertificateFile": f'"{DIRECTORY}/{name}.key-cert.pub"',
        "UserKnownHostsFile": f'"{DIRECTORY}/{name}.known_hosts"',
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "BatchMode": "yes",
        # A shared connection would outlive the command, and serve others.
        "ControlMaster": "no",
        "ControlPath": "none",
    }
    sections = []
    for number, place in enumerate(settings.get("hosts", "").split(",")):
        host, _, port = place.partition(" ")
        names = [host] if number else [credential.target, name, host]
        lines = {"HostName": host, "Port": port, **common}
        sections.append(
            f"Host {' '.join(dict.fromkeys(names))}\n" + "".join(f"  {key} {value}\n" for key, value in lines.items())
        )
    return "".join(sections)
