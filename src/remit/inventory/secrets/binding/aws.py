"""AWS: the account stands in the key id; Bedrock keys and presigned requests name it too; Terraform names the user.

Spec: AWS IAM "Understanding unique ID prefixes". The account in a key id is not documented by AWS: of an id whose
first bit is set, bits 1 to 40 of its base32 body are the account number.
"""

from __future__ import annotations

import base64
import hashlib
import re

from remit.inventory.connectors.files.values import aws_account
from remit.inventory.model import Attribute, CredentialKind, IdentityKind
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, Subject, subject
from remit.kernel.ids import name

_KEY_ID = re.compile(r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}")
_KEY_ID_NEAR = re.compile(r"(?<![A-Z0-9])A(?:KIA|SIA)[A-Z2-7]{16}(?![A-Z0-9])")
_SECRET = re.compile(r"[A-Za-z0-9/+]{40}")
_BEDROCK = re.compile(r"ABSK([A-Za-z0-9+/=]{40,400})")
_BEDROCK_NAME = re.compile(r"(BedrockAPIKey-[\w-]+-at-(\d{12}))(?::|$)")
_CREDENTIAL = re.compile(r"X-Amz-Credential=(A(?:KIA|SIA)[A-Z2-7]{16})(?:%2F|/)", re.IGNORECASE)
_USER = re.compile(r'"user(?:name)?"\s*:\s*"([\w+=,.@/-]{1,128})"')
_ARN = re.compile(r"arn:aws[\w-]*:iam::(\d{12}):user/([\w+=,.@/-]{1,600})")
_TYPES = {"AKIA": "long-term", "ASIA": "temporary", "ABIA": "bearer", "ACCA": "context"}


def bind(seen: Seen) -> Binding | None:
    """A key id, the secret beside one, a Bedrock key, or a presigned request."""
    value = seen.value
    if _KEY_ID.fullmatch(value):
        return _access_key(seen, value, None)
    if found := _BEDROCK.fullmatch(value):
        return _bedrock(found.group(1))
    if value.startswith("bedrock-api-key-"):
        return _bedrock_short(seen, value.removeprefix("bedrock-api-key-"))
    if found := _CREDENTIAL.search(value):
        return _access_key(seen, found.group(1), value.encode())
    if "aws" in f"{seen.hit.rule} {seen.hit.variable}".lower() and _SECRET.fullmatch(value):
        key_id = seen.part("key_id", "access_key_id", "aws_access_key_id") or _nearest(seen)
        if _KEY_ID.fullmatch(key_id):
            return _access_key(seen, key_id, seen.hit.value)
        return Binding(provider="aws", method="form", what="AWS secret access key", kind=CredentialKind.ACCESS_KEY)
    return None


def _nearest(seen: Seen) -> str:
    """The key id that stands closest to the value."""
    middle = min(seen.hit.start, 3_000)
    found = [(abs(match.start() - middle), match.group()) for match in _KEY_ID_NEAR.finditer(seen.around)]
    return min(found)[1] if found and min(found)[0] < 1_000 else ""


def _access_key(seen: Seen, key_id: str, companion: bytes | None) -> Binding:
    account = aws_account(key_id) or ""
    about: dict[str, Attribute] = {
        "access_key_id": key_id,
        "account": account,
        "class": _TYPES.get(key_id[:4], ""),
        "temporary": key_id.startswith("ASIA"),
    }
    return Binding(
        provider="aws",
        method="account number in the key id" if account else "key id",
        what=f"AWS access key {key_id}",
        kind=CredentialKind.ACCESS_KEY,
        public="sha256:" + hashlib.sha256(key_id.encode()).hexdigest(),
        companion=companion,
        clear=(key_id,),
        harmless="" if companion else "the id of a key opens nothing without its secret",
        subject=_user(seen, account),
        reached=_account(account),
        attributes=about,
    )


def _user(seen: Seen, account: str) -> Subject | None:
    """The IAM user that an ARN, or Terraform's state, names beside the key."""
    arns = [(number, local) for number, local in _ARN.findall(seen.around) if account in ("", number)]
    if len(set(arns)) == 1:
        number, local = arns[0]
        return iam_user(number, local)
    users = set(_USER.findall(seen.around))
    if account and len(users) == 1 and "aws_iam_access_key" in seen.around:
        return iam_user(account, users.pop())
    return None


def iam_user(account: str, local: str) -> Subject:
    """A user as the AWS connector names it."""
    arn = f"arn:aws:iam::{account}:user/{local}"
    return subject(
        "aws", account, "user", local,
        of=IdentityKind.CLOUD_USER, title=local.rpartition("/")[2], aliases=(name("aws", account, "arn", arn),),
        attributes={"account": account},
    )  # fmt: skip


def _account(account: str) -> tuple[Reached, ...]:
    if not account:
        return ()
    return (Reached(name=name("aws", account, "account", account), kind="aws-account", title=f"account {account}"),)


def _bedrock(body: str) -> Binding:
    text = base64.b64decode(body + "=" * (-len(body) % 4)).decode("latin-1")
    found = _BEDROCK_NAME.match(text)
    user, account = found.groups() if found else ("", "")
    return Binding(
        provider="aws",
        method="user and account in the key" if account else "prefix",
        what="Amazon Bedrock key",
        kind=CredentialKind.API_KEY,
        subject=iam_user(account, user) if account else None,
        reached=_account(account),
        attributes={"account": account, "class": "bedrock", "user": user} if account else {"class": "bedrock"},
    )


def _bedrock_short(seen: Seen, body: str) -> Binding | None:
    text = base64.b64decode(body + "=" * (-len(body) % 4)).decode("latin-1")
    found = _CREDENTIAL.search(text)
    return _access_key(seen, found.group(1), seen.hit.value) if found else None
