"""Who may do what in PostgreSQL: the server's own rules, evaluated on rows of its catalogues. Pure; asks nobody.

The judge of this file is the server: `has_table_privilege` and its kin answer the same, on every role, object and
privilege (`tests/conformance/postgres`).

Spec: PostgreSQL documentation, "Privileges" (5.8), "Predefined Roles" (22.5), "GRANT"; backend/utils/adt/acl.c and
backend/catalog/aclchk.c of 13 to 18.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

from remit.providers.postgres.access_lists import PUBLIC, Acl, Cluster, Item, RoleRow, Thing
from remit.providers.postgres.catalogue import POWERS

Mode: TypeAlias = Literal["USAGE", "MEMBER", "SET"]
"""What a role has of another: its rights at once, its membership, or the way to become it (`SET ROLE`)."""

ACTIONS: Final[Mapping[str, frozenset[str]]] = {
    "database": frozenset({"CREATE", "CONNECT", "TEMPORARY"}),
    "schema": frozenset({"USAGE", "CREATE"}),
    "table": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}),
    "sequence": frozenset({"USAGE", "SELECT", "UPDATE"}),
    "function": frozenset({"EXECUTE"}),
    "type": frozenset({"USAGE"}),
    "language": frozenset({"USAGE"}),
    "server": frozenset({"USAGE"}),
    "wrapper": frozenset({"USAGE"}),
    "tablespace": frozenset({"CREATE"}),
    "large-object": frozenset({"SELECT", "UPDATE"}),
    "parameter": frozenset({"SET", "ALTER SYSTEM"}),
}
"""The privileges of each kind of thing; from 17 on a table has MAINTAIN too (`actions_of`)."""

_EVERYBODY: Final[Mapping[str, frozenset[str]]] = {
    "database": frozenset({"CONNECT", "TEMPORARY"}),
    "function": frozenset({"EXECUTE"}),
    "type": frozenset({"USAGE"}),
    "language": frozenset({"USAGE"}),
}
"""What PUBLIC has of a thing on which nothing was ever granted or revoked."""

_SUPERUSERS_OWN: Final = frozenset({"INSERT", "UPDATE", "DELETE", "TRUNCATE", "USAGE"})
"""What nobody else has of a table of the server itself, whatever was granted."""

_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE"})


def actions_of(kind: str, version: int) -> frozenset[str]:
    """The privileges that a thing of this kind has in this version."""
    found = ACTIONS[kind]
    return found | {"MAINTAIN"} if kind == "table" and version >= 170000 else found


def effective_acl(thing: Thing, version: int) -> tuple[Item, ...]:
    """The access list that counts: the stored one, or what the server takes where none is stored."""
    if thing.acl is not None:
        return thing.acl
    everything = actions_of(thing.kind, version) if thing.kind != "parameter" else frozenset()
    items = (
        [Item(grantee=thing.owner, grantor=thing.owner, actions=everything, grantable=frozenset())]
        if everything
        else []
    )
    if public := _EVERYBODY.get(thing.kind):
        items.append(Item(grantee=PUBLIC, grantor=thing.owner, actions=public, grantable=frozenset()))
    return tuple(items)


class Rights:
    """The rights of every role of a server, as they hold in one of its databases.

    The database counts because its owner is a member of `pg_database_owner` there, and nowhere else.
    """

    def __init__(self, cluster: Cluster, *, database_owner: int | None = None) -> None:
        self.version = cluster.version
        self.roles: Mapping[int, RoleRow] = {role.oid: role for role in cluster.roles}
        self._named = {role.name: role.oid for role in cluster.roles}
        self._database_owner = database_owner
        self._up: dict[int, list[tuple[int, bool, bool, bool]]] = {}
        for each in cluster.memberships:
            member = self.roles.get(each.member)
            if member is not None and each.role in self.roles:
                inherits = each.inherits if each.inherits is not None else member.inherits
                may_set = each.may_set if each.may_set is not None else True
                self._up.setdefault(each.member, []).append((each.role, inherits, may_set, each.admin))
        self._closures: dict[tuple[int, Mode], frozenset[int]] = {}

    def named(self, name: str) -> int | None:
        """The role of this name; `None` where this version has none."""
        return self._named.get(name)

    def is_superuser(self, role: int) -> bool:
        return role in self.roles and self.roles[role].superuser

    # Roles

    def closure(self, role: int, mode: Mode) -> frozenset[int]:
        """Every role that `role` has in this way, itself among them; a superuser's power is not counted."""
        key = (role, mode)
        found = self._closures.get(key)
        if found is None:
            found = self._closures[key] = self._walk(role, mode)
        return found

    def has_role(self, role: int, other: int, mode: Mode) -> bool:
        """`pg_has_role(role, other, mode)`."""
        if self.version < 160000 and mode == "SET":
            mode = "MEMBER"
        return role == other or self.is_superuser(role) or other in self.closure(role, mode)

    def administers(self, role: int, other: int) -> bool:
        """`pg_has_role(role, other, 'MEMBER WITH ADMIN OPTION')`: whether it may grant `other`."""
        if self.is_superuser(role):
            return True
        if role == other:
            return False
        return any(
            up == other and admin for each in self.closure(role, "MEMBER") for up, _, _, admin in self._up.get(each, ())
        )

    def powers(self, name: str) -> tuple[str, ...]:
        """The grave predefined roles (`POWERS`) whose rights this role has, at once or after `SET ROLE`."""
        role = self._named.get(name)
        if role is None or self.is_superuser(role):
            return ()
        become = self.closure(role, "SET")
        has = frozenset[int]().union(*(self.closure(each, "USAGE") for each in become))
        return tuple(sorted(each for each in POWERS if (oid := self._named.get(each)) in has and oid != role))

    def parents(self, role: int, mode: Mode) -> list[int]:
        """The roles of which `role` is a direct member in this way."""
        found = [
            up for up, inherits, may_set, _ in self._up.get(role, ())
            if (mode != "USAGE" or inherits) and (mode != "SET" or may_set)
        ]  # fmt: skip
        if role == self._database_owner and (implicit := self._named.get("pg_database_owner")) is not None:
            # Up to 15 a role without INHERIT has nothing at once, not even this.
            old = self.version < 160000 and mode == "USAGE" and not self.roles[role].inherits
            found += [] if old else [implicit]
        return found

    def _walk(self, role: int, mode: Mode) -> frozenset[int]:
        seen = {role}
        waiting = [role]
        while waiting:
            for up in self.parents(waiting.pop(), mode):
                if up not in seen:
                    seen.add(up)
                    waiting.append(up)
        return frozenset(seen)

    # Things

    def allowed(self, role: int, thing: Thing, action: str, *, grantable: bool = False) -> bool:
        """`has_<kind>_privilege(role, thing, action)`; with `grantable`, `action WITH GRANT OPTION`.

        `role` may be `PUBLIC`. Row security, and the schema around the thing, do not count here: see `reaches`.
        """
        return self.is_superuser(role) or self.granted(role, thing, action, grantable=grantable)

    def granted(self, role: int, thing: Thing, action: str, *, grantable: bool = False) -> bool:
        """The same without a superuser's power: what somebody has who inherits the rights of `role`."""
        if thing.system and action in _SUPERUSERS_OWN and self._is_stored(thing):
            return False
        if self._listed(role, effective_acl(thing, self.version), thing.owner, action, grantable):
            return True
        return not grantable and self._predefined(role, thing, action)

    def on_column(self, role: int, table: Thing, column: str, action: str, *, grantable: bool = False) -> bool:
        """`has_column_privilege(role, table, column, action)`."""
        if self.allowed(role, table, action, grantable=grantable):
            return True
        acl: Acl = next((each.acl for each in table.columns if each.name == column), None)
        return acl is not None and self._listed(role, acl, table.owner, action, grantable)

    def on_any_column(self, role: int, table: Thing, action: str, *, grantable: bool = False) -> bool:
        """`has_any_column_privilege(role, table, action)`."""
        return self.allowed(role, table, action, grantable=grantable) or any(
            each.acl is not None and self._listed(role, each.acl, table.owner, action, grantable)
            for each in table.columns
        )

    def _listed(self, role: int, acl: Iterable[Item], owner: int, action: str, grantable: bool) -> bool:
        has = self.closure(role, "USAGE") if role in self.roles else frozenset()
        if grantable and owner in has:
            return True
        return any(
            action in (item.grantable if grantable else item.actions)
            for item in acl
            if item.grantee == PUBLIC or item.grantee in has
        )

    def _predefined(self, role: int, thing: Thing, action: str) -> bool:
        return any(
            oid in self.closure(role, "USAGE")
            for name in predefined_for(thing.kind, action)
            if role in self.roles and (oid := self._named.get(name)) is not None
        )

    @staticmethod
    def _is_stored(thing: Thing) -> bool:
        return thing.kind in ("table", "sequence") and (thing.facts or {}).get("relkind") != "v"


def predefined_for(kind: str, action: str) -> tuple[str, ...]:
    """The predefined roles that have this privilege on everything of the kind, in the versions that know them."""
    if kind in ("table", "sequence"):
        if action == "SELECT":
            return ("pg_read_all_data",)
        if action in _WRITES:
            return ("pg_write_all_data",)
        return ("pg_maintain",) if action == "MAINTAIN" else ()
    return ("pg_read_all_data", "pg_write_all_data") if kind == "schema" and action == "USAGE" else ()
