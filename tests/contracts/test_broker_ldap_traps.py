"""What a directory does that a broker must not fall for: each trap on a real slapd."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ldap_stage import (
    BASE,
    BROKER,
    CLOSED,
    LIMITS,
    ORDER,
    READERS,
    SUFFIX,
    WRITERS,
    LdapServer,
    LdapStage,
    bare,
    ldap_server,
    ldap_stage,
    ldap_target,
)
from remit.access.brokers.ldap import LdapBroker
from remit.access.model import Proved, Unproved
from remit.access.testing import INSTANCE, mint_order, revoke_order
from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.ldap.client import Address, Link

Play = Callable[[LdapStage], Coroutine[Any, Any, None]]
USERS = [*CLOSED[:4], f'to dn.subtree="ou=data,{SUFFIX}" by users read by anonymous none', CLOSED[5]]
SYNCPROV = "dn: olcOverlay=syncprov,olcDatabase={1}mdb,cn=config\n"
WHOLE = f"cn=alone,ou=groups,{SUFFIX}"


@pytest.fixture(scope="module")
def running() -> Iterator[LdapServer]:
    with ldap_server() as server:
        yield server


@pytest.fixture
def server(running: LdapServer) -> Iterator[LdapServer]:
    yield running
    running.access(CLOSED)
    for name in running.names():
        running.tool("ldapdelete", name)
    for group in (READERS, WRITERS):
        running.change(f"dn: {group}\nchangetype: modify\nreplace: member\nmember: {group}\n")


def play(server: LdapServer, scene: Play, **how: Any) -> None:
    async def run() -> None:
        async with ldap_stage(server, **how) as stage:
            await scene(stage)

    asyncio.run(run())


# Connections that outlive their entry


def test_a_live_connection_loses_what_its_group_gave_and_is_reported(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, _, session = await stage.lease()
        assert session.sees()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert (done.gone, done.sessions_ended, session.sees()) == (True, 1, False)
        assert isinstance(done.proof, Proved) and "before and none after" in done.proof.control
        assert [left.fate for left in done.left_behind] == ["open, without rights"]

    play(server, scene)


def test_rights_of_users_stay_with_a_live_connection_and_it_is_not_called_contained(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        server.access(USERS)
        order, _, session = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert session.sees(), "the trap is gone"
        assert (done.gone, done.sessions_ended) == (False, 0)
        assert isinstance(done.proof, Unproved) and "no group gave" in done.proof.why
        await session.close()
        [again] = await stage.broker.revoke([revoke_order(order)])
        assert again.gone and isinstance(again.proof, Proved)
        assert not server.names()

    play(server, scene)


def test_rights_of_a_branch_stay_too(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        server.access([*CLOSED[:4], f'to dn.subtree="ou=data,{SUFFIX}" by dn.children="{BASE}" read', CLOSED[5]])
        order, _, session = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert session.sees() and not done.gone

    play(server, scene)


def test_what_everybody_sees_is_no_right_of_the_lease(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        public = f'to dn.exact="ou=data,{SUFFIX}" by group.exact="{READERS}" read by * read'
        server.access([*CLOSED[:4], public, *CLOSED[4:]])
        order, _, _ = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)

    play(server, scene)


def test_a_connection_of_an_entry_that_somebody_deleted_is_judged_all_the_same(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        server.access(USERS)
        order, minted, session = await stage.lease()
        server.change(f"dn: {minted.settings['user']}\nchangetype: delete\n")
        assert session.sees(), "the trap is gone"
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert not done.gone and not server.names()

    play(server, scene)


def test_a_member_that_dangles_is_taken_out_though_the_entry_is_gone(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, minted, session = await stage.lease()
        server.change(f"dn: {minted.settings['user']}\nchangetype: delete\n")
        assert session.sees(), "the trap is gone"
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and not session.sees()
        assert server.values(READERS, "member") == [READERS]

    play(server, scene)


@contextmanager
def following(server: LdapServer, user: str, secret: str) -> Iterator[Callable[[], str]]:
    """A search of ldap-utils that stays open for changes; what it has said so far."""
    said, key = server.folder / f"said-{user[:8]}", server.folder / f"key-{user[:8]}"
    key.write_text(secret)
    command = ["stdbuf", "-oL", "ldapsearch", "-x", "-H", f"ldap://127.0.0.1:{server.port}", "-D", user, "-y", str(key)]
    command += ["-LLL", "-b", f"ou=data,{SUFFIX}", "-E", "sync=rp", "(objectClass=*)", "description"]
    with said.open("w") as out:
        running = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=bare())
    try:
        yield said.read_text
    finally:
        running.kill()
        running.wait()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def describe(server: LdapServer, text: str) -> None:
    server.change(f"dn: {ORDER}\nchangetype: modify\nreplace: description\ndescription: {text}\n")


def test_a_search_that_follows_changes_goes_on_and_is_not_called_contained(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, minted, _ = await stage.lease()
        with (
            following(server, minted.settings["user"], order.secret) as lease,
            following(server, f"cn=root,{SUFFIX}", server.password) as control,
        ):
            until(lambda: "order1" in lease() and "order1" in control())
            describe(server, "before")
            until(lambda: "before" in lease() and "before" in control())
            [done] = await stage.broker.revoke([revoke_order(order)])
            describe(server, "after")
            until(lambda: "after" in control() and "after" in lease())  # else the trap is gone
            assert not done.gone and isinstance(done.proof, Unproved) and "under way" in done.proof.why
        [again] = await stage.broker.revoke([revoke_order(order)])
        assert again.gone and isinstance(again.proof, Proved)

    server.configure(f"{SYNCPROV}changetype: add\nobjectClass: olcSyncProvConfig\nolcOverlay: syncprov\n")
    play(server, scene)


def test_where_connections_are_not_shown_it_is_unproved(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        for rules, why in ((CLOSED, "may be open"), (USERS, "no group gave")):
            server.access(rules)
            order, _, _ = await stage.lease()
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert done.gone and isinstance(done.proof, Unproved)
            assert why in done.proof.why and "does not show connections" in done.proof.why

    change = "dn: olcDatabase={2}monitor,cn=config\nchangetype: modify\nreplace: olcAccess\nolcAccess: "
    server.configure(f"{change}to * by * none\n")
    try:
        play(server, scene)
    finally:
        server.configure(f'{change}to dn.subtree="cn=Connections,cn=Monitor" by dn.exact="{BROKER}" read\n')


def test_a_role_of_which_nothing_can_be_tried_is_not_called_proved(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, _, _ = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Unproved) and "probe" in done.proof.why

    play(server, scene, options={"probe": f"ou=policies,{SUFFIX}"})


# Groups


def test_the_last_member_is_taken_out_of_a_group_that_may_not_be_empty(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        server.change(f"dn: {WHOLE}\nchangetype: add\nobjectClass: groupOfNames\ncn: alone\nmember: cn=x,{SUFFIX}\n")
        order = mint_order(stage, role=WHOLE)
        await stage.broker.mint(order)
        server.change(f"dn: {WHOLE}\nchangetype: modify\ndelete: member\nmember: cn=x,{SUFFIX}\n")
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and server.values(WHOLE, "member") == [WHOLE]
        assert any("no other member" in left.what for left in done.left_behind)

    play(server, scene, roles={"whole": WHOLE})


def test_a_group_of_unique_names_and_two_groups_at_once(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        server.change(
            f"dn: cn=unique,ou=groups,{SUFFIX}\nchangetype: add\nobjectClass: groupOfUniqueNames\ncn: unique\n"
            f"uniqueMember: cn=x,{SUFFIX}\n"
        )
        order = mint_order(stage, role=stage.target.roles["two"])
        minted = await stage.broker.mint(order)
        assert minted.settings["user"] in server.values(f"cn=unique,ou=groups,{SUFFIX}", "uniqueMember")
        assert minted.settings["user"] in server.values(READERS, "member")
        await stage.broker.revoke([revoke_order(order)])
        assert server.values(f"cn=unique,ou=groups,{SUFFIX}", "uniqueMember") == [f"cn=x,{SUFFIX}"]

    play(server, scene, roles={"two": f"cn=unique,ou=groups,{SUFFIX}; {READERS}"})


def test_a_group_that_somebody_added_the_lease_to_is_left_too(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, minted, session = await stage.lease()
        server.change(f"dn: {WRITERS}\nchangetype: modify\nadd: member\nmember: {minted.settings['user']}\n")
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and not session.sees()
        assert server.values(WRITERS, "member") == [WRITERS]

    play(server, scene)


def test_a_member_without_an_entry_is_swept(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, minted, _ = await stage.lease()
        server.change(f"dn: {minted.settings['user']}\nchangetype: delete\n")
        assert await stage.broker.sweep(INSTANCE) == [order.principal]
        await stage.broker.revoke([revoke_order(order)])
        assert await stage.broker.sweep(INSTANCE) == []

    play(server, scene)


def test_a_group_that_is_not_there_is_refused_before_anything_is_made(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        with pytest.raises(Rejected) as refused:
            await stage.broker.mint(mint_order(stage, role=f"cn=none,ou=groups,{SUFFIX}"))
        assert refused.value.code == "access.ldap.group"
        assert not await stage.broker.sweep(INSTANCE)

    play(server, scene, roles={"none": f"cn=none,ou=groups,{SUFFIX}"})


# What a lease leaves, and what guards its password


def test_what_a_lease_made_is_reported_or_removed_and_what_lies_below_it_goes(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        for delete in ("keep", "delete"):
            async with ldap_stage(server, options={"made": delete}) as made:
                order, minted, _ = await made.lease(role=WRITERS)
                server.tool(
                    "ldapadd",
                    user=minted.settings["user"],
                    secret=order.secret,
                    text=f"dn: cn=new-{delete},ou=data,{SUFFIX}\nobjectClass: device\ncn: new-{delete}\n",
                )
                server.change(
                    f"dn: cn=below,{minted.settings['user']}\nchangetype: add\nobjectClass: device\ncn: below\n"
                )
                [done] = await made.broker.revoke([revoke_order(order)])
                assert done.gone
                fates = {left.what.split()[1].partition(",")[0]: left.fate for left in done.left_behind}
                assert fates["cn=below"] == "removed"
                assert fates[f"cn=new-{delete}"] == ("kept" if delete == "keep" else "removed"), fates
        assert server.names("(cn=new-*)", SUFFIX) == [f"cn=new-keep,ou=data,{SUFFIX}"]

    # To remove what leases made the broker needs as much as they.
    allowed = f'to dn.subtree="ou=data,{SUFFIX}" by dn.exact="{BROKER}" write by * break'
    server.access([allowed, *CLOSED])
    play(server, scene)


def test_a_locked_account_is_still_ended_with_its_connections(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, minted, session = await stage.lease()
        for _ in range(4):
            stage.login(minted.settings["user"], "a guess")
        assert stage.login(minted.settings["user"], order.secret).startswith("49 "), "the trap is gone"
        assert session.sees()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved) and not session.sees()

    play(server, scene)


def test_an_expired_lease_is_still_ended_with_its_connections(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, _, session = await stage.lease()
        await stage.broker.renew([order.principal], datetime.now(UTC) - timedelta(minutes=1))
        assert session.sees(), "the trap is gone"
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved) and not session.sees()

    play(server, scene)


def test_the_directory_keeps_a_salted_hash_and_never_the_secret(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, minted, _ = await stage.lease()
        [kept] = server.values(minted.settings["user"], "userPassword")
        assert base64.b64decode(kept).startswith(b"{SSHA}") and order.secret.encode() not in base64.b64decode(kept)
        await stage.broker.revoke([revoke_order(order)])

    play(server, scene)


@pytest.mark.parametrize("scheme", ["ssha256", "ssha512", "pbkdf2"])
def test_a_hash_that_the_server_cannot_read_is_noticed_at_the_mint(server: LdapServer, scheme: str) -> None:
    async def scene(stage: LdapStage) -> None:
        order = mint_order(stage)
        with pytest.raises(Rejected) as refused:
            await stage.broker.mint(order)
        assert refused.value.code == "access.lease.login"
        await stage.broker.revoke([revoke_order(order)])
        assert not server.names()

    play(server, scene, options={"hash": scheme})


def test_a_sweep_that_a_limit_cuts_short_is_an_error_and_never_a_short_answer(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        orders = [mint_order(stage) for _ in range(8)]
        for order in orders:
            await stage.broker.mint(order)
        assert list(await stage.broker.sweep(INSTANCE)) == sorted(order.principal for order in orders)
        server.configure(f"{change}delete: olcLimits\n")
        with pytest.raises(Misconfigured) as refused:
            await stage.broker.sweep(INSTANCE)
        assert refused.value.code == "access.ldap.limit"

    change = "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n"
    server.configure(f"{change}replace: olcSizeLimit\nolcSizeLimit: 5\n")
    try:
        play(server, scene)
    finally:
        server.configure(f"{change}delete: olcSizeLimit\n-\nreplace: olcLimits\nolcLimits: {LIMITS}\n")


# Ways in


def test_every_protected_way_in_works(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        order, _, _ = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved)

    play(server, scene, options={"tls": "starttls"}, port=server.port)
    play(server, scene, options={"tls": "ldapi"}, host=server.socket, port=1)
    play(server, scene, options={"tls": "none"}, port=server.port)


def test_a_certificate_of_a_stranger_or_for_another_name_ends_it_before_the_password(server: LdapServer) -> None:
    for how in (
        Address(host="127.0.0.1", port=server.tls_port, user=BROKER, protection="ldaps"),
        Address(host="127.0.0.1", port=server.port, user=BROKER, protection="starttls"),
        Address(host="127.0.0.2", port=server.tls_port, user=BROKER, protection="ldaps", ca=server.ca),
    ):
        with pytest.raises((Misconfigured, Unavailable)) as refused:
            Link(how, server.password)
        assert refused.value.code in ("access.ldap.tls", "access.ldap.unreachable")


def test_a_referral_is_refused_and_never_followed(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        with pytest.raises(Misconfigured) as refused:
            await stage.broker.mint(mint_order(stage))
        assert refused.value.code == "access.ldap.referral"

    change = "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n"
    server.configure(
        f"{change}add: olcSyncrepl\nolcSyncrepl: rid=1 provider=ldap://127.0.0.9:1 "
        f'searchbase="{SUFFIX}" bindmethod=simple retry="3600 +"\n-\n'
        "add: olcUpdateRef\nolcUpdateRef: ldap://127.0.0.9:1\n"
    )
    try:
        play(server, scene)
    finally:
        server.configure(f"{change}delete: olcUpdateRef\n-\ndelete: olcSyncrepl\n")


def test_a_replica_that_cannot_be_asked_leaves_it_unproved(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        with ldap_server() as deaf:
            order = mint_order(stage)
            await stage.broker.mint(order)
            both = ldap_target(server, options={"replicas": f"127.0.0.1:{deaf.tls_port}"})
            broker = LdapBroker(both, server.password)
            await broker.open()
            try:
                [done] = await broker.revoke([revoke_order(order)])
            finally:
                await broker.close()
            # Another CA: the replica cannot even be asked.
            assert done.gone and isinstance(done.proof, Unproved) and "could be asked" in done.proof.why

    play(server, scene)


def test_a_broken_connection_is_made_anew(server: LdapServer) -> None:
    async def scene(stage: LdapStage) -> None:
        await stage.broker.sweep(INSTANCE)
        for link in stage.broker._opened[0]._idle:
            link._connection.socket.close()
        assert await stage.broker.sweep(INSTANCE) == []

    play(server, scene)


def test_active_directory_is_refused_by_name() -> None:
    async def scene() -> None:
        broker = LdapBroker(ldap_target(server), server.password)
        with pytest.raises(Misconfigured) as refused:
            await broker.open()
        assert refused.value.code == "access.ldap.flavour" and "Active Directory" in refused.value.message

    kind = "( 1.2.840.113556.1.4.3 NAME 'supportedCapabilities' SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 )"
    with ldap_server() as server:
        says = server.folder / "root.ldif"
        says.write_text("dn:\nsupportedCapabilities: 1.2.840.113556.1.4.800\n")
        server.configure(
            "dn: cn=ad,cn=schema,cn=config\nchangetype: add\nobjectClass: olcSchemaConfig\ncn: ad\n"
            f"olcAttributeTypes: {kind}\n"
        )
        server.configure(f"dn: cn=config\nchangetype: modify\nadd: olcRootDSE\nolcRootDSE: {says}\n")
        asyncio.run(scene())


# What doctor says


def titles(server: LdapServer, **how: Any) -> set[str]:
    found: set[str] = set()

    async def scene(stage: LdapStage) -> None:
        found.update(check.title for check in await stage.broker.check() if not check.ok)
        assert not server.names()

    play(server, scene, **how)
    return found


USUAL = {"live sessions end when Remit is dead", "replicas are asked too"}


def test_doctor_is_content_with_groups_alone(server: LdapServer) -> None:
    assert titles(server) == USUAL


def test_doctor_warns_of_rights_of_users(server: LdapServer) -> None:
    server.access(USERS)
    assert titles(server) == USUAL | {"rights come from groups alone"}


def test_doctor_tells_of_a_role_without_group(server: LdapServer) -> None:
    assert titles(server, roles={"x": f"cn=none,{SUFFIX}"}) == USUAL | {f"the role `cn=none,{SUFFIX}` is a group"}


def test_doctor_tells_where_nothing_expires_and_no_connection_is_shown() -> None:
    with ldap_server(expiry=False, monitor=False) as server:
        assert titles(server) == {
            "live sessions end when Remit is dead", "logins expire without Remit", "live connections are seen",
            "replicas are asked too",
        }  # fmt: skip


def test_a_policy_that_nobody_named_leaves_logins_without_end(server: LdapServer) -> None:
    overlay = "dn: olcOverlay={1}ppolicy,olcDatabase={1}mdb,cn=config\nchangetype: modify\n"
    server.configure(f"{overlay}delete: olcPPolicyDefault\n")
    try:
        assert "logins expire without Remit" in titles(server)
        assert "logins expire without Remit" not in titles(
            server, options={"policy": f"cn=leases,ou=policies,{SUFFIX}"}
        )
    finally:
        server.configure(f"{overlay}add: olcPPolicyDefault\nolcPPolicyDefault: cn=leases,ou=policies,{SUFFIX}\n")


def test_an_error_never_shows_a_secret(server: LdapServer) -> None:
    async def scene() -> RemitError:
        broker = LdapBroker(ldap_target(server, user=f"cn=nobody,{SUFFIX}"), server.password)
        with pytest.raises(Misconfigured) as refused:
            await broker.open()
        return refused.value

    error = asyncio.run(scene())
    assert server.password not in f"{error!r} {error} {error.next_step}"
