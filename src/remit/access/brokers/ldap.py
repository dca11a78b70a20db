"""LDAP: an entry that can bind for each lease, with the rights of its groups and no others.

A directory does not end connections: one that is bound stays bound, whatever becomes of its entry. Only rights by
groups are taken at once, so a role is groups; `ldap_revocation` tries what is left and says so.

Spec: RFC 4511; OpenLDAP 2.5 slapo-ppolicy(5), slapd.access(5), slapd-monitor(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from remit.access.brokers import ldap_settings
from remit.access.brokers.ldap_checks import checks
from remit.access.brokers.ldap_entries import Entries, read_layout
from remit.access.brokers.ldap_revocation import Revoker
from remit.access.brokers.ldap_settings import MANIFEST, decode_options
from remit.access.brokers.location import Location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.brokers.refusals import not_mapped, not_open
from remit.access.model import Minted, MintOrder, Revocation, RevokeOrder, Target
from remit.kernel.clock import Clock, SystemClock
from remit.kernel.errors import Misconfigured, Rejected, RemitError
from remit.providers.ldap.client import SUCCESS, Directory, Link
from remit.providers.ldap.names import is_below


class LdapBroker:
    """Mints, renews, revokes, proves and sweeps below one base of one directory."""

    def __init__(
        self,
        target: Target,
        secret: str,
        *,
        randomness: Callable[[int], bytes] = os.urandom,
        clock: Clock | None = None,
    ) -> None:
        self._settings = decode_options(target)
        self._target = target
        self._secret = secret
        self._randomness = randomness
        self._clock = clock or SystemClock()
        self._open: tuple[Directory, Entries] | None = None

    def __repr__(self) -> str:
        return f"LdapBroker({self._settings.address})"

    async def open(self) -> None:
        """Bind, and read the directory's layout; `Unavailable`, or `Misconfigured` for a login that is refused."""
        await self.close()
        directory = Directory(self._settings.address, self._secret)
        try:
            layout = await directory.run(read_layout)
            if layout.other:
                raise Misconfigured(
                    "access.ldap.flavour",
                    f"`{self._settings.address}` is {layout.other}, which is not supported yet",
                    next_step="leave it out: passwords, expiry and rights are kept there in another way",
                )
            base = self._settings.base
            if not await directory.run(lambda link: link.search(base, "(objectClass=*)", scope="BASE")):
                raise Misconfigured(
                    "access.ldap.base",
                    f"there is no entry `{base[:100]}` that the broker may see",
                    next_step="make an organizationalUnit for leases, and give the broker its access rules",
                )
        except BaseException:
            await directory.close()
            raise
        self._open = (
            directory,
            Entries(settings=self._settings, layout=layout, randomness=self._randomness, clock=self._clock),
        )

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened[0].close()

    async def mint(self, order: MintOrder) -> Minted:
        """Make the entry, log in with it once, then put it into its groups. The same order again changes nothing."""
        instance_of([order.principal])
        directory, entries = self._opened
        if order.role not in self._settings.roles:
            raise not_mapped(self._target, order.role, "GROUP")
        if order.database and order.database != self._settings.base:
            raise Rejected("access.ldap.base", f"leases are made below `{self._settings.base[:100]}` alone")
        groups = await directory.run(lambda link: entries.groups(link, order.role))
        await directory.run(
            lambda link: entries.put(link, order.principal, order.secret, label=order.label, expires=order.expires)
        )
        name = entries.name_of(order.principal)
        tried = await directory.apart(replace(self._settings.address, user=name), order.secret, _used)
        if tried:
            raise Rejected("access.lease.login", f"the new credential does not work: {tried}")
        await directory.run(lambda link: entries.join(link, order.principal, groups))
        return Minted(principal=order.principal, settings=self._how(name, entries))

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Move `pwdEndTime`, where there is one; returns those that exist."""
        if not principals:
            return []
        instance_of(principals)
        directory, entries = self._opened

        def move(link: Link) -> list[str]:
            return [name for name in principals if entries.move_end(link, name, expires)]

        return await directory.run(move)

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them and prove each; one with a connection that keeps rights says `gone=False` and why."""
        if not orders:
            return []
        instance_of([order.principal for order in orders])
        directory, entries = self._opened
        return await Revoker(directory, entries, broker=self._target.user).revoke(orders)

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that have an entry below the base, or are members of a role's group."""
        directory, entries = self._opened

        def look(link: Link) -> set[str]:
            return {*entries.all(link, f"remit_{instance}_"), *entries.members(link)}

        return of_instance(await directory.run(look), instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        try:
            return await checks(*self._opened)
        except RemitError as error:
            return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]

    @property
    def _opened(self) -> tuple[Directory, Entries]:
        if self._open is None:
            raise not_open(self._target)
        return self._open

    def _how(self, name: str, entries: Entries) -> dict[str, str]:
        address = self._settings.address
        roots = [one for one in entries.layout.contexts if is_below(self._settings.base, one)]
        settings = {"uri": address.uri, "user": name, "base": roots[0] if roots else self._settings.base}
        settings |= {"host": address.host, "port": str(address.port), "tls": address.protection}
        return settings | ({"ca": address.ca} if address.ca else {})


def _used(link: Link) -> str:
    """Why a login cannot be used, or nothing: a policy may let it in for nothing but a change of its password."""
    if link.bound.code != SUCCESS:
        return link.bound.words
    return "" if (said := link.whoami()).code == SUCCESS else said.words


class LdapBrokerFactory:
    """The plug-in."""

    id = "ldap"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> LdapBroker:
        """A broker for `target`; nothing is opened yet."""
        try:
            from remit.providers.ldap.client import driver

            driver()
        except ImportError:
            raise Misconfigured(
                "access.ldap.driver", "the driver for LDAP is not installed", next_step="pip install 'remit[ldap]'"
            ) from None
        return LdapBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `ldaps://BIND-DN@HOST[:PORT]/BASE-DN`, `ldap://` for StartTLS, or `ldapi://`."""
        return ldap_settings.locate(url)

    def present(self, credential: Credential) -> Presentation:
        """What clients of OpenLDAP read from their environment, and a password file for their `-y`."""
        settings = credential.settings
        stem = f"{credential.target}-{credential.role}"
        where = {"URI": settings.get("uri", ""), "BASE": settings.get("base", ""), "TLS_REQCERT": "demand"}
        where |= {"TLS_CACERT": settings["ca"]} if "ca" in settings else {}
        text = "".join(f"{key} {value}\n" for key, value in where.items())
        return Presentation(
            variables={f"LDAP{key}": value for key, value in where.items()} | {"LDAPBINDDN": settings.get("user", "")},
            secrets={"LDAP_PASSWORD": credential.secret},
            files={
                f"{stem}.ldap.conf": text,
                f"{stem}.ldaprc": f"{text}BINDDN {settings.get('user', '')}\n",
                f"{stem}.ldap-password": credential.secret,
            },
            pointers={"LDAPCONF": f"{stem}.ldap.conf", "LDAP_PASSWORD_FILE": f"{stem}.ldap-password"},
            stale=(
                *("LDAPURI", "LDAPHOST", "LDAPPORT", "LDAPBASE", "LDAPBINDDN", "LDAPRC", "LDAPCONF", "LDAPNOINIT"),
                *("LDAPTLS_REQCERT", "LDAPTLS_CACERT", "LDAPTLS_CACERTDIR", "LDAPTLS_CERT", "LDAPTLS_KEY"),
                *("LDAPSASL_MECH", "LDAPSASL_AUTHCID", "LDAPSASL_AUTHZID", "LDAP_PASSWORD", "LDAP_PASSWORD_FILE"),
            ),
        )
