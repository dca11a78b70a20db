"""A real OpenLDAP, private to its block, and a broker on it: what tests of the LDAP broker stand on."""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certificates import certificate, root, usage
from patience import listens, until_ready
from ports import free_ports, on_a_free_port
from remit.access.brokers.ldap import LdapBroker
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import mint_order
from remit.providers.ldap.client import SUCCESS, Address, Link
from remit.providers.ldap.hashing import hashed

SUFFIX = "dc=example,dc=org"
BASE = f"ou=leases,{SUFFIX}"
BROKER = f"cn=remit_broker,ou=admins,{SUFFIX}"
READERS = f"cn=readers,ou=groups,{SUFFIX}"
WRITERS = f"cn=writers,ou=groups,{SUFFIX}"
POLICY = f"cn=leases,ou=policies,{SUFFIX}"
ORDER = f"cn=order1,ou=data,{SUFFIX}"
MODULES = Path("/usr/lib/ldap")
CLOSED = [
    f'to dn.subtree="{BASE}" attrs=userPassword by dn.exact="{BROKER}" =w by anonymous auth',
    f'to dn.subtree="{BASE}" by dn.exact="{BROKER}" write',
    f'to dn.subtree="ou=groups,{SUFFIX}" attrs=member,uniqueMember by dn.exact="{BROKER}" write',
    f'to dn.subtree="{SUFFIX}" attrs=entry,objectClass,creatorsName,modifiersName by dn.exact="{BROKER}" read by * break',
    f'to dn.subtree="ou=data,{SUFFIX}" by group.exact="{WRITERS}" write by group.exact="{READERS}" read',
    "to attrs=userPassword by anonymous auth",
]
"""Access by groups alone; the first four are what the broker needs."""

LIMITS = f'dn.exact="{BROKER}" size=unlimited'


@dataclass(slots=True)
class LdapServer:
    """A running slapd with one database; `root` may do everything."""

    port: int
    tls_port: int
    folder: Path
    process: subprocess.Popen[bytes]
    password: str
    host: str = "127.0.0.1"

    @property
    def socket(self) -> str:
        return str(self.folder / "ldapi")

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    def tool(
        self, name: str, *words: str, user: str = f"cn=root,{SUFFIX}", secret: str = "", text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A tool of ldap-utils over loopback, with a password in a private file."""
        with tempfile.NamedTemporaryFile("w", dir=self.folder) as key:
            key.write(secret or self.password)
            key.flush()
            login = ["-x", "-D", user, "-y", key.name] if user else ["-x"]
            return subprocess.run(
                [name, "-H", f"ldap://{self.host}:{self.port}", *login, *words],
                input=text, capture_output=True, text=True, timeout=60, check=False, env=bare(),
            )  # fmt: skip

    def change(self, text: str) -> None:
        """Apply LDIF as root."""
        done = self.tool("ldapmodify", text=text)
        assert done.returncode == 0, done.stderr

    def configure(self, text: str) -> None:
        """Apply LDIF to the running configuration."""
        done = self.tool("ldapmodify", user="cn=config", text=text)
        assert done.returncode == 0, done.stderr

    def access(self, rules: Sequence[str]) -> None:
        """Replace the access rules of the database."""
        lines = "\n".join(f"olcAccess: {{{number}}}{rule}" for number, rule in enumerate(rules))
        self.configure(f"dn: olcDatabase={{1}}mdb,cn=config\nchangetype: modify\nreplace: olcAccess\n{lines}\n")

    def names(self, condition: str = "(cn=remit_*)", base: str = BASE) -> list[str]:
        said = self.tool("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-b", base, condition, "1.1").stdout
        return [line.removeprefix("dn: ") for line in said.splitlines() if line.startswith("dn: ")]

    def values(self, name: str, attribute: str) -> list[str]:
        said = self.tool("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", name, attribute).stdout
        return [line.partition(": ")[2] for line in said.splitlines() if line.startswith(f"{attribute}:")]

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def bare() -> dict[str, str]:
    """The environment without what LDAP clients read."""
    return {key: value for key, value in os.environ.items() if not key.startswith("LDAP")} | {"LDAPNOINIT": "1"}


def _hash(secret: str) -> str:
    return hashed("ssha", secret, secrets.token_bytes)


def _config(folder: Path, password: str, *, expiry: bool, monitor: bool) -> str:
    parts = [
        "dn: cn=config\nobjectClass: olcGlobal\ncn: config\n"
        f"olcPidFile: {folder}/pid\nolcTLSCACertificateFile: {folder}/ca.pem\n"
        f"olcTLSCertificateFile: {folder}/cert.pem\nolcTLSCertificateKeyFile: {folder}/key.pem\n",
        f"dn: cn=module{{0}},cn=config\nobjectClass: olcModuleList\ncn: module{{0}}\nolcModulePath: {MODULES}\n"
        "olcModuleLoad: back_mdb\nolcModuleLoad: back_monitor\nolcModuleLoad: back_null\nolcModuleLoad: memberof\n"
        "olcModuleLoad: syncprov\nolcModuleLoad: refint\n" + ("olcModuleLoad: ppolicy\n" if expiry else ""),
        "dn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n",
        *(f"include: file:///etc/ldap/schema/{name}.ldif\n" for name in ("core", "cosine", "inetorgperson")),
        f"dn: olcDatabase={{0}}config,cn=config\nobjectClass: olcDatabaseConfig\nolcDatabase: {{0}}config\n"
        f"olcRootDN: cn=config\nolcRootPW: {_hash(password)}\nolcAccess: {{0}}to * by * none\n",
        f"dn: olcDatabase={{1}}mdb,cn=config\nobjectClass: olcMdbConfig\nolcDatabase: {{1}}mdb\nolcSuffix: {SUFFIX}\n"
        f"olcRootDN: cn=root,{SUFFIX}\nolcRootPW: {_hash(password)}\nolcDbDirectory: {folder}/db\nolcDbNoSync: TRUE\n"
        "olcDbMaxSize: 104857600\nolcDbIndex: objectClass,cn,member eq\n"
        + f"olcLimits: {LIMITS}\n"
        + "".join(f"olcAccess: {{{number}}}{rule}\n" for number, rule in enumerate(CLOSED)),
        "dn: olcOverlay={0}memberof,olcDatabase={1}mdb,cn=config\nobjectClass: olcMemberOf\n"
        "olcOverlay: {0}memberof\nolcMemberOfDangling: ignore\n",
    ]
    if expiry:
        parts.append(
            "dn: olcOverlay={1}ppolicy,olcDatabase={1}mdb,cn=config\nobjectClass: olcPPolicyConfig\n"
            f"olcOverlay: {{1}}ppolicy\nolcPPolicyDefault: {POLICY}\n"
        )
    if monitor:
        parts.append(
            "dn: olcDatabase={2}monitor,cn=config\nobjectClass: olcMonitorConfig\nolcDatabase: {2}monitor\n"
            f'olcAccess: {{0}}to dn.subtree="cn=Connections,cn=Monitor" by dn.exact="{BROKER}" read\n'
        )
    return "\n".join(parts)


def _data(password: str, *, expiry: bool) -> str:
    people = "\n".join(
        f"dn: cn={cn},ou=groups,{SUFFIX}\nobjectClass: groupOfNames\ncn: {cn}\nmember: cn={cn},ou=groups,{SUFFIX}\n"
        for cn in ("readers", "writers")
    )
    units = "\n".join(
        f"dn: ou={ou},{SUFFIX}\nobjectClass: organizationalUnit\nou: {ou}\n"
        for ou in ("leases", "groups", "data", "admins", "policies")
    )
    return (
        f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n{units}\n{people}\n"
        f"dn: {BROKER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: remit_broker\n"
        f"userPassword: {_hash(password)}\n\n"
        f"dn: {ORDER}\nobjectClass: device\ncn: order1\ndescription: one order\n"
        + (
            f"\ndn: {POLICY}\nobjectClass: device\nobjectClass: pwdPolicy\ncn: leases\npwdAttribute: userPassword\n"
            "pwdLockout: TRUE\npwdMaxFailure: 3\n"
            if expiry
            else ""
        )
    )


@on_a_free_port
def ldap_server(*, expiry: bool = True, monitor: bool = True) -> Iterator[LdapServer]:
    """slapd on free ports of loopback and a Unix socket; skips the test without slapd."""
    for program in ("slapd", "slapadd", "ldapwhoami"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"{program}: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-ldap-", dir="/tmp"))
    password = secrets.token_urlsafe(24)
    for name in ("config", "db"):
        (folder / name).mkdir(mode=0o700)
    _certify(folder)
    try:
        _load(folder, "0", _config(folder, password, expiry=expiry, monitor=monitor))
        _load(folder, "1", _data(password, expiry=expiry))
        port, tls_port = free_ports(2)
        urls = (
            f"ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port} ldapi://{str(folder / 'ldapi').replace('/', '%2F')}"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["/usr/sbin/slapd", "-d", "0", "-h", urls, "-F", str(folder / "config")], stdout=log, stderr=log
            )
        server = LdapServer(port, tls_port, folder, process, password)
        try:
            _wait(server)
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load(folder: Path, database: str, text: str) -> None:
    done = subprocess.run(
        ["/usr/sbin/slapadd", "-n", database, "-F", str(folder / "config")],
        input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _certify(folder: Path) -> None:
    above = root("ldap.test")
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = certificate(issuer=above, name="slapd", names=names, key_usage=usage("digital_signature"))
    pem = serialization.Encoding.PEM
    key = made.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(above.certificate.public_bytes(pem))
    (folder / "cert.pem").write_bytes(made.certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(key)


def _wait(server: LdapServer) -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as own:
            own.connect(str(server.folder / "ldapi"))
        return listens(server.port) and listens(server.tls_port)

    until_ready(server.process, server.folder / "log", answers)


class Session:
    """A task's connection: bound once, never again."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def sees(self, name: str = ORDER) -> bool:
        return bool(self.link.search(name, "(objectClass=*)", scope="BASE"))

    async def work(self) -> None:
        assert self.sees(), "the directory shows nothing any more"

    async def close(self) -> None:
        self.link.close()


@dataclass(slots=True)
class LdapStage:
    """`BrokerStage` on a real server."""

    server: LdapServer
    broker: LdapBroker
    target: Target
    role: str = READERS
    database: str = BASE
    sessions: list[Session] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> Session:
        return self.connection(minted.settings["user"], secret)

    def connection(self, user: str, secret: str) -> Session:
        """One bound connection; fails where the login is refused."""
        link = Link(self.address(user), secret)
        self.sessions.append(Session(link))
        assert link.bound.code == SUCCESS, link.bound.words
        return self.sessions[-1]

    def address(self, user: str) -> Address:
        return Address(
            host=self.server.host, port=self.server.tls_port, user=user, protection="ldaps", ca=self.server.ca
        )

    def login(self, user: str, secret: str) -> str:
        """What the server says to a login."""
        link = Link(self.address(user), secret)
        link.close()
        return link.bound.words

    async def lease(self, **changes: Any) -> tuple[MintOrder, Minted, Session]:
        """Mint, and return the order with an open connection of the task."""
        order = mint_order(self, **changes)
        minted = await self.broker.mint(order)
        return order, minted, self.connection(minted.settings["user"], order.secret)

    async def admit_anyone(self) -> None:
        """A database that lets everybody in takes over the branch of the leases."""
        self.server.configure(
            "dn: olcDatabase={1}null,cn=config\nchangetype: add\nobjectClass: olcNullConfig\nolcDatabase: {1}null\n"
            f"olcSuffix: {BASE}\nolcDbBindAllowed: TRUE\n"
        )

    async def stop(self) -> None:
        self.server.kill()


def ldap_target(server: LdapServer, *, options: Mapping[str, str] | None = None, **changes: Any) -> Target:
    """The target as `remit target add` would make it, over TLS, as the login with the least rights."""
    values: dict[str, Any] = {
        "name": "people",
        "system": "ldap",
        "host": server.host,
        "port": server.tls_port,
        "database": BASE,
        "user": BROKER,
        "roles": {"read": READERS, "write": WRITERS, "both": f"{READERS};{WRITERS}"},
        "options": {"tls": "ldaps", "ca": server.ca} | dict(options or {}),
    }
    return Target(**(values | changes))


@asynccontextmanager
async def ldap_stage(
    server: LdapServer, *, options: Mapping[str, str] | None = None, **changes: Any
) -> AsyncIterator[LdapStage]:
    """An open broker on `server`."""
    target = ldap_target(server, options=options, **changes)
    broker = LdapBroker(target, server.password)
    stage = LdapStage(server, broker, target)
    try:
        await broker.open()
        yield stage
    finally:
        await broker.close()
        for session in stage.sessions:
            await session.close()
