"""A directory with machines and persons in it, half of it shaped like Active Directory: for tests of the connector."""

from __future__ import annotations

import base64
from pathlib import Path

from ldap_stage import SUFFIX, LdapServer
from remit.inventory.connectors.ldap import MANIFEST

READER = f"cn=remit_reader,ou=admins,{SUFFIX}"
READER_WORD = "reader-of-the-directory-8"
TOLD = "Vk7-told-in-description"
DOMAIN = (21, 1, 2, 3)
_STRING, _BYTES = "1.3.6.1.4.1.1466.115.121.1.15", "1.3.6.1.4.1.1466.115.121.1.40"
_ATTRIBUTES = {
    "sAMAccountName": (_STRING, True), "userPrincipalName": (_STRING, True), "userAccountControl": (_STRING, True),
    "servicePrincipalName": (_STRING, False), "adminCount": (_STRING, True), "lastLogonTimestamp": (_STRING, True),
    "pwdLastSet": (_STRING, True), "accountExpires": (_STRING, True), "whenCreated": (_STRING, True),
    "objectSid": (_BYTES, True), "primaryGroupID": (_STRING, True), "managedBy": (_STRING, True),
    "msDS-AllowedToDelegateTo": (_STRING, False), "msDS-AllowedToActOnBehalfOfOtherIdentity": (_BYTES, True),
    "msDS-SupportedEncryptionTypes": (_STRING, True), "msDS-ManagedPasswordInterval": (_STRING, True),
    "sshPublicKey": (_BYTES, False),
}  # fmt: skip


def schema() -> str:
    """The few types of Active Directory that the connector reads, and two classes, as slapd takes them."""
    lines = ["dn: cn=shapes,cn=schema,cn=config", "objectClass: olcSchemaConfig", "cn: shapes"]
    for number, (attribute, (syntax, single)) in enumerate(_ATTRIBUTES.items(), 1):
        equality = "caseIgnoreMatch" if syntax == _STRING else "octetStringMatch"
        lines.append(
            f"olcAttributeTypes: ( 1.3.6.1.4.1.99999.1.{number} NAME '{attribute}' EQUALITY {equality} SYNTAX {syntax}"
            f"{' SINGLE-VALUE' if single else ''} )"
        )
    may = " $ ".join(_ATTRIBUTES)
    for number, kind in enumerate(("user", "computer", "msDS-GroupManagedServiceAccount", "shaped"), 1):
        lines.append(
            f"olcObjectClasses: ( 1.3.6.1.4.1.99999.2.{number} NAME '{kind}' SUP top AUXILIARY "
            f"MAY ( cn $ description $ owner $ manager $ {may} ) )"
        )
    return "\n".join(lines) + "\n"


def sid(*parts: int) -> bytes:
    return bytes([1, len(parts), 0, 0, 0, 0, 0, 5]) + b"".join(part.to_bytes(4, "little") for part in parts)


def descriptor(*sids: bytes) -> bytes:
    """A security descriptor whose list allows these identifiers everything."""
    entries = b"".join(b"\0\0" + (8 + len(one)).to_bytes(2, "little") + b"\xff\x01\x0f\0" + one for one in sids)
    head = b"\x04\0" + (8 + len(entries)).to_bytes(2, "little") + len(sids).to_bytes(2, "little") + b"\0\0"
    return b"\x01\0\x04\x80" + bytes(12) + (20).to_bytes(4, "little") + head + entries


def _entry(dn: str, *classes: str, **attributes: str | bytes | list[str]) -> str:
    lines = [f"dn: {dn}", "changetype: add", *(f"objectClass: {each}" for each in classes)]
    for key, given in attributes.items():
        for value in given if isinstance(given, list) else [given]:
            raw = value if isinstance(value, bytes) else value.encode()
            lines.append(f"{key.replace('__', '-')}:: {base64.b64encode(raw).decode()}")
    return "\n".join(lines) + "\n"


def account(
    cn: str, *, unit: str = "accounts", classes: tuple[str, ...] = ("person", "user"), **more: str | bytes | list[str]
) -> str:
    own: dict[str, str | bytes | list[str]] = {"cn": cn} | ({"sn": cn} if "person" in classes else {})
    return _entry(f"cn={cn},ou={unit},{SUFFIX}", *classes, **own, **more)


def people(ssh_key: str, hashed: str) -> str:
    """Everything, as changes."""
    hundred = 132_000_000_000_000_000
    parts = [
        *(_entry(f"ou={ou},{SUFFIX}", "organizationalUnit", ou=ou) for ou in ("accounts", "Service Accounts")),
        _entry(READER, "organizationalRole", "simpleSecurityObject", cn="remit_reader", userPassword=hashed),
        account("Ann Lee", sAMAccountName="ann", userAccountControl="512"),
        account("svc-sql", sAMAccountName="svc-sql", userAccountControl=str(512 | 0x10000 | 0x400000), adminCount="1",
                servicePrincipalName=["MSSQL/db.example.org:1433"], pwdLastSet=str(hundred), objectSid=sid(*DOMAIN, 1104),
                lastLogonTimestamp=str(hundred + 864_000_000_000), description=f"login for reports, password: {TOLD}",
                managedBy=f"cn=Ann Lee,ou=accounts,{SUFFIX}", primaryGroupID="512", userPassword=hashed,
                userPrincipalName="svc-sql@example.org"),
        account("front", sAMAccountName="front", userAccountControl=str(512 | 0x80000)),
        account("middle", sAMAccountName="middle", userAccountControl=str(512 | 0x1000000),
                msDS__AllowedToDelegateTo=["MSSQL/db.example.org:1433"]),
        account("gone", sAMAccountName="svc-gone", userAccountControl=str(512 | 0x2 | 0x200000)),
        account("web01", classes=("device", "computer"), sAMAccountName="WEB01$", userAccountControl="4096",
                msDS__AllowedToActOnBehalfOfOtherIdentity=descriptor(sid(*DOMAIN, 1104))),
        account("gmsa", classes=("device", "msDS-GroupManagedServiceAccount"), sAMAccountName="gmsa$",
                userAccountControl="4096", msDS__ManagedPasswordInterval="30", pwdLastSet=str(hundred)),
        account("loader", classes=("applicationProcess", "simpleSecurityObject", "shaped"), userPassword=hashed,
                sshPublicKey=ssh_key),
        account("Somebody", unit="Service Accounts", classes=("person",)),
        account("odd, \"name\"; +x", classes=("applicationProcess",)).replace(
            "dn: cn=odd, \"name\"; +x,", "dn: cn=odd\\, \\22name\\22\\; \\2Bx,"),
        _entry(f"cn=team,ou=groups,{SUFFIX}", "groupOfNames", cn="team", member=[f"cn=SVC-SQL,ou=accounts,{SUFFIX}",
               f"cn=writers,ou=groups,{SUFFIX}"], owner=f"cn=Ann Lee,ou=accounts,{SUFFIX}"),
    ]  # fmt: skip
    return "\n".join(parts)


def granted(*, passwords: bool = True) -> list[str]:
    """The rules of the manifest, for our reader and base, and nothing more."""
    said = [
        need.grant.removeprefix("olcAccess: ").replace('"BASE"', f'"{SUFFIX}"').replace('"READER"', f'"{READER}"')
        for need in MANIFEST.needs
        if need.grant.startswith('olcAccess: to dn.subtree="BASE"')
        and "uidNumber" not in need.grant  # of schemas that are not loaded here
        and (passwords or "userPassword" not in need.grant)
    ]
    shaped = f'to dn.subtree="{SUFFIX}" attrs={",".join(_ATTRIBUTES)} by dn.exact="{READER}" read by * break'
    return ["to attrs=userPassword by anonymous auth by * break", *said, shaped, "to * by * none"]


def plant(server: LdapServer, ssh_key: str, hashed: str) -> None:
    done = server.tool("ldapadd", user="cn=config", text=schema())
    assert done.returncode == 0, done.stderr
    server.change(people(ssh_key, hashed))


def log_of(server: LdapServer) -> str:
    return Path(server.folder / "log").read_text()
