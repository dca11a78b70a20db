"""What `remit doctor` says of a directory: it makes an entry without rights, tries what that may do, and deletes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from remit.access.brokers.ldap_entries import Entries, beyond, sight
from remit.access.brokers.port import Check
from remit.kernel.errors import RemitError
from remit.providers.ldap.client import INVALID_CREDENTIALS, SUCCESS, Address, Directory, Link, Outcome

_PREFIX = "remit_check_"
_TRIAL = timedelta(minutes=2)


async def checks(directory: Directory, entries: Entries) -> list[Check]:
    """Reachability, protection, privileges, what expires, and who has rights that no group gave."""
    address = entries.settings.address
    said = [
        Check(ok=True, title="the server answers", detail=f"{address}, {', '.join(entries.layout.contexts)[:120]}"),
        Check(
            ok=address.protection != "none",
            title="secrets are protected on their way",
            detail="" if address.protection != "none" else "`tls=none`: on this machine alone",
            next_step="use ldaps://, StartTLS or ldapi://",
        ),
        await _refuses(directory, address),
        await _least(directory),
    ]
    said += await _trial(directory, entries)
    said += [await _group(directory, entries, role) for role in sorted(entries.settings.roles)]
    shown = await directory.run(entries.connections)
    said.append(
        Check(
            ok=shown is not None,
            title="live connections are seen",
            detail=f"{len(shown)} now" if shown else "cn=Monitor shows none to the broker",
            next_step="add the database `monitor`, and let the broker read cn=Connections,cn=Monitor",
        )
    )
    if entries.layout.replicates:
        known = len(entries.settings.replicas)
        said.append(
            Check(
                ok=known > 0,
                title="replicas are asked too",
                detail=f"{known} named" if known else "the server offers replication; a refusal is proved here alone",
                next_step="name the others in the option `replicas`, or go on if there are none",
            )
        )
    said.append(
        Check(
            ok=False,
            title="live sessions end when Remit is dead",
            detail="not fail-safe: a directory ends no connection, and keeps members of groups",
            next_step="start Remit again: it ends what outlived it; olcIdleTimeout ends those that are idle",
        )
    )
    return said


async def _refuses(directory: Directory, address: Address) -> Check:
    nobody = replace(address, user="cn=remit_nobody," + address.user.partition(",")[2])
    tried = await directory.apart(nobody, "no secret", lambda link: link.bound)
    return Check(
        ok=tried.code == INVALID_CREDENTIALS,
        title="logins are checked",
        detail=f"an unknown name gets {tried.words}",
        next_step="see the databases and overlays that answer binds: until then no revocation can be proved",
    )


async def _least(directory: Directory) -> Check:
    broad = await directory.run(lambda link: bool(link.search("cn=config", "(objectClass=*)", scope="BASE")))
    return Check(
        ok=not broad,
        title="the broker holds no more than it needs",
        detail="it reads cn=config" if broad else "",
        next_step="give it an entry of its own, with the access rules of docs/plugins.md and no others",
    )


async def _group(directory: Directory, entries: Entries, role: str) -> Check:
    title = f"the role `{role[:80]}` is a group"
    try:
        groups = await directory.run(lambda link: entries.groups(link, role))
    except RemitError as error:
        return Check(ok=False, title=title, detail=error.message, next_step=error.next_step)
    return Check(ok=True, title=title, detail=", ".join(groups.values()))


async def _trial(directory: Directory, entries: Entries) -> list[Check]:
    """An entry in no group: what it sees is what every login keeps for as long as its connection lives."""
    name, secret = _PREFIX + entries.randomness(8).hex(), entries.randomness(32).hex()
    own = replace(entries.settings.address, user=entries.name_of(name))
    now = entries.clock.now()
    branches = await directory.run(entries.branches)
    public = await directory.apart(
        replace(own, user=""), "", lambda link: sight(link, branches) if link.bound.code == SUCCESS else {}
    )

    def looked(link: Link) -> tuple[Outcome, list[str]]:
        good = link.bound.code == SUCCESS
        return link.bound, beyond(sight(link, branches), public, [own.user]) if good else []

    try:
        await directory.run(lambda link: entries.put(link, name, secret, label="remit doctor", expires=now + _TRIAL))
        admitted, more = await directory.apart(own, secret, looked)
        await directory.run(lambda link: entries.move_end(link, name, now - _TRIAL))
        late = await directory.apart(own, secret, lambda link: link.bound)
    except RemitError as error:
        return [Check(ok=False, title="leases can be made", detail=error.message, next_step=error.next_step)]
    finally:
        await directory.run(lambda link: _clean(link, entries))
    return [
        Check(
            ok=admitted.code == SUCCESS,
            title="leases can be made",
            detail="" if admitted.code == SUCCESS else f"a new entry gets {admitted.words}",
            next_step="see the password policy that holds for leases, and the option `hash`",
        ),
        Check(
            ok=not more,
            title="rights come from groups alone",
            detail=f"any login sees `{more[0][:100]}`, and keeps that for as long as its connection lives"
            if more
            else "",
            next_step="replace `by users`, `by *` and `by dn.subtree` in olcAccess by `by group.exact=…`",
        ),
        Check(
            ok=late.code != SUCCESS,
            title="logins expire without Remit",
            detail="`pwdEndTime` is not looked at" if late.code == SUCCESS else "",
            next_step="add the overlay ppolicy and a policy that holds: olcPPolicyDefault, or the option `policy`",
        ),
    ]


def _clean(link: Link, entries: Entries) -> None:
    """Also what an earlier trial left that was cut short."""
    found: Sequence[str] = entries.all(link, _PREFIX)
    for name in found:
        entries.destroy(link, name)
