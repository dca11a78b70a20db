"""Accounts that stand without a lease: what they may do, and statements that give a second login the same.

Spec: MariaDB "SHOW GRANTS", "SHOW CREATE USER", "ALTER USER", "REVOKE", "SET DEFAULT ROLE".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from remit.providers.mariadb import catalogue
from remit.providers.mariadb.catalogue import Account
from remit.providers.mariadb.client import Session
from remit.providers.mariadb.hashing import Plugin, verifier

_GRANT = re.compile(r"GRANT (.+) ON ((?:(?:TABLE|FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) )?(?:`.*`|\*)\.(?:`.*`|\*))")
_ROLE = re.compile(r"GRANT `(.+)`")
_ACCOUNT = re.compile(
    r"CREATE USER \S+ IDENTIFIED (?:BY PASSWORD '[^']*'|VIA (?P<plugin>\w+)(?: USING '[^']*')?(?P<more>(?: OR .+?)?))"
    r"(?P<rest>(?: (?:REQUIRE|WITH|PASSWORD EXPIRE|ACCOUNT LOCK) ?.*)?)"
)
_EVERYWHERE = frozenset({"USAGE", "SHOW DATABASES", "SELECT", "INSERT", "UPDATE", "DELETE", "EXECUTE", "SHOW VIEW"})
"""What a program may hold on every database, and be no administrator."""
_PASSWORDS: dict[str | None, Plugin] = {
    None: "mysql_native_password", "mysql_native_password": "mysql_native_password", "ed25519": "ed25519",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Rights on one thing, or a role, as a line of `SHOW GRANTS` has them."""

    rights: frozenset[str]
    on: str
    """As the statement names it; empty for a role."""
    passed_on: bool
    """With GRANT OPTION or ADMIN OPTION."""

    def covers(self, other: Grant) -> bool:
        """Whether who holds this one may give `other` to somebody; a right on a thing has that on its columns."""
        wide = self.on in ("*.*", other.on, other.on.rpartition(".")[0].rpartition(" ")[2] + ".*")
        enough = all({right, right.partition(" (")[0], "ALL PRIVILEGES"} & self.rights for right in other.rights)
        return self.passed_on and wide and enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One account, as far as a second one must be like it."""

    account: Account
    plugin: Plugin | None
    """How it shows its password; `None` where it needs none, or may come in by other means."""
    rest: str
    """What `CREATE USER` says after that: TLS, limits, the age of passwords."""
    default_role: str
    grants: tuple[Grant, ...]

    @property
    def administers(self) -> bool:
        """Whether it may give rights on, or holds such as reach logins, files or the server itself."""
        return any(
            one.passed_on or (one.on == "*.*" and one.rights - _EVERYWHERE) or one.on.startswith("`mysql`.")
            for one in self.grants
        )


def look_up(session: Session, user: str) -> list[Standing]:
    """The accounts of a login, one for each host. Needs SELECT on `mysql`."""
    return [_standing(session, account) for account in sorted(catalogue.accounts(session, [user]), key=str)]


def own_grants(session: Session) -> list[Grant]:
    """What we hold ourselves; the roles among it are those we may have."""
    [(me,)] = session.rows("SELECT CURRENT_USER()")
    user, _, host = str(me).rpartition("@")
    lines = [str(row[0]) for row in session.rows("SHOW GRANTS")]
    return _grants(lines, Account(user=user, host=host, locked=False))


def twin(session: Session, like: Sequence[Standing], new: str, secret: str) -> None:
    """Make `new` a login with the rights, roles and limits of another, from the same hosts; again changes nothing."""
    for one in like:
        account = replace(one.account, user=new)
        assert one.plugin is not None, "surveyed"
        # Without rights until it has all of them: another rotation may have left others.
        session.rows(f"CREATE USER IF NOT EXISTS {account} {_LOCKED}")
        session.rows(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account}")
        for grant in one.grants:
            what = catalogue.name(next(iter(grant.rights))) if not grant.on else ", ".join(sorted(grant.rights))
            session.rows(f"GRANT {what}{f' ON {grant.on}' if grant.on else ''} TO {account}")
        how = f"IDENTIFIED VIA {one.plugin} USING '{verifier(one.plugin, secret)}'"
        session.rows(f"ALTER USER {account} {how}{one.rest} ACCOUNT UNLOCK")


def lock(session: Session, user: str) -> None:
    """Take its password from a login and lock it: what is defined in its name goes on."""
    for account in catalogue.accounts(session, [user]):
        session.rows(f"ALTER USER IF EXISTS {account} {_LOCKED}")


_LOCKED = "IDENTIFIED VIA mysql_native_password USING 'invalid' ACCOUNT LOCK"


def _standing(session: Session, account: Account) -> Standing:
    [(made,)] = session.rows(f"SHOW CREATE USER {account}")
    said = _ACCOUNT.fullmatch(str(made))
    plugin = _PASSWORDS.get(said["plugin"]) if said and not said["more"] else None
    rows = session.rows(
        "SELECT JSON_VALUE(priv, '$.default_role') FROM mysql.global_priv WHERE user = %s AND host = %s",
        (account.user, account.host),
    )
    grants = [str(row[0]) for row in session.rows(f"SHOW GRANTS FOR {account}")]
    return Standing(
        account=account,
        plugin=plugin,
        rest=said["rest"].removesuffix(" ACCOUNT LOCK") if said else "",
        default_role=str(rows[0][0] or "") if rows else "",
        grants=tuple(_grants(grants, account)),
    )


def _grants(lines: Sequence[str], account: Account) -> list[Grant]:
    found = []
    for line in lines:
        what, sign, tail = line.rpartition(f" TO {account}")
        if not sign:
            continue
        passed_on = tail.endswith(("WITH GRANT OPTION", "WITH ADMIN OPTION")) or " WITH GRANT OPTION" in tail
        if (said := _GRANT.fullmatch(what)) is not None:
            if (rights := _split(said[1])) != {"USAGE"} or passed_on:
                found.append(Grant(rights=rights, on=said[2], passed_on=passed_on))
        elif (role := _ROLE.fullmatch(what)) is not None:
            found.append(Grant(rights=frozenset({role[1].replace("``", "`")}), on="", passed_on=passed_on))
        else:  # GRANT PROXY, and whatever comes later: nothing that we would give on
            found.append(Grant(rights=frozenset({what.removeprefix("GRANT ")[:80]}), on="?", passed_on=True))
    return found


def _split(rights: str) -> frozenset[str]:
    """`SELECT (`id`, `name`), INSERT` → both, each with its columns."""
    return frozenset(each.strip() for each in re.findall(r"[^,(]+(?:\([^)]*\))?", rights))
