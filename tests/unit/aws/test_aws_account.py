"""Reading an account: what is told of principals and keys, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from remit.inventory.connectors.aws import AwsConnector, FileSource
from remit.inventory.model import CredentialFact, IdentityFact, OwnerFact, Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import name

Account = Any
Make = Callable[..., dict[str, Any]]
_A = "111122223333"


def _key(user: str, key_id: str, created: str, used: str | None = None, status: str = "Active") -> dict[str, Any]:
    last = {"LastUsedDate": used, "ServiceName": "s3"} if used else {"ServiceName": "N/A"}
    key = {"UserName": user, "AccessKeyId": key_id, "Status": status, "CreateDate": created}
    return {**key, "AccessKeyLastUsed": last}


def _with_keys(account: Account, *keys: dict[str, Any]) -> Account:
    account.user("u")
    account.details["AccessKeyMetadata"] = list(keys)
    return account


def test_an_access_key_is_known_by_the_hash_of_its_id(account: Account) -> None:
    facts = _with_keys(account, _key("u", "AKIAQ", "2025-12-20T00:00:00Z")).facts()
    (key,) = [fact for fact in facts if isinstance(fact, CredentialFact)]
    assert key.fingerprint == f"sha256:{hashlib.sha256(b'AKIAQ').hexdigest()}"
    assert key.identity == name("aws", _A, "user", "u")


@pytest.mark.parametrize(
    ("created", "used", "rules"),
    [
        ("2025-12-20T00:00:00Z", None, set()),
        ("2025-12-20T00:00:00Z", "2025-12-31T00:00:00Z", set()),
        ("2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z", {"aws.old-access-key"}),
        ("2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z", {"aws.old-access-key", "aws.unused-access-key"}),
        ("2025-01-01T00:00:00Z", None, {"aws.old-access-key", "aws.unused-access-key"}),
    ],
)
def test_old_and_unused_keys_are_found(account: Account, created: str, used: str | None, rules: set[str]) -> None:
    assert _with_keys(account, _key("u", "AKIAQ", created, used)).rules() == rules


def test_an_inactive_key_is_no_finding(account: Account) -> None:
    assert _with_keys(account, _key("u", "AKIAQ", "2020-01-01T00:00:00Z", status="Inactive")).rules() == set()


def test_two_active_keys_are_a_finding(account: Account) -> None:
    keys = [_key("u", key_id, "2025-12-20T00:00:00Z") for key_id in ("AKIAQ", "AKIAR")]
    assert _with_keys(account, *keys).rules() == {"aws.two-active-keys"}


@pytest.mark.parametrize(("devices", "found"), [([], True), ([{"UserName": "u", "SerialNumber": "x"}], False)])
def test_a_password_without_a_second_factor_is_a_finding(
    account: Account, devices: list[dict[str, str]], found: bool
) -> None:
    account.user("u")
    account.details |= {"LoginProfiles": [{"UserName": "u"}], "MFADevices": devices}
    assert ("aws.console-without-mfa" in account.rules()) is found


def test_what_was_not_asked_is_reported_and_not_taken_for_none(account: Account) -> None:
    account.user("u")
    facts = account.facts()
    assert sum(isinstance(fact, Skipped) for fact in facts) == 3
    (user,) = [f for f in facts if isinstance(f, IdentityFact) and f.title == "u"]
    assert "can_login" not in user.attributes


@pytest.mark.parametrize(
    ("last_used", "found"),
    [({}, True), ({"LastUsedDate": "2025-12-30T00:00:00Z"}, False), ({"LastUsedDate": "2025-01-01T00:00:00Z"}, True)],
)
def test_a_role_that_nobody_uses_is_dormant(account: Account, trust: Make, last_used: Any, found: bool) -> None:
    account.role("r", trust({"Service": "ec2.amazonaws.com"}), last_used=last_used)
    account.details["RoleDetailList"][0]["CreateDate"] = "2024-01-01T00:00:00Z"
    assert ("aws.dormant-role" in account.rules()) is found


def test_an_owner_is_proposed_from_a_tag_with_its_evidence(account: Account) -> None:
    account.user("u", tags={"Owner": "ana@example.com", "Environment": "prod"})
    facts = account.facts()
    (owner,) = [fact for fact in facts if isinstance(fact, OwnerFact)]
    assert (owner.owner, owner.method, owner.evidence) == ("ana@example.com", "tag", "tag `Owner` of user u")
    (user,) = [fact for fact in facts if isinstance(fact, IdentityFact) and fact.title == "u"]
    assert user.attributes["environment"] == "production"


def test_the_arn_is_an_alias(account: Account) -> None:
    account.user("u")
    (user,) = [fact for fact in account.facts() if isinstance(fact, IdentityFact) and fact.title == "u"]
    assert name("aws", _A, "arn", f"arn:aws:iam::{_A}:user/u") in user.aliases


def test_instance_and_coverage_are_known_after_open(account: Account) -> None:
    account.user("u")
    account.facts()
    connector = AwsConnector(FileSource(account.path))
    connector.open()
    assert (connector.instance, connector.scope) == (_A, f"{_A} details")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "inventory.aws.not-json"),
        (b"[1]", "inventory.aws.not-json"),
        (b"[" * 100_000, "inventory.aws.not-json"),
        (b"{}", "inventory.aws.not-details"),
        (b'{"UserDetailList": [{"Arn": "x"}, 3, null]}', "inventory.aws.not-details"),
        (
            json.dumps({"UserDetailList": [{"Arn": f"arn:aws:iam::{digit * 12}:user/u"} for digit in "12"]}).encode(),
            "inventory.aws.mixed-accounts",
        ),
    ],
    ids=["empty", "list", "deep", "object", "foreign", "mixed"],
)
def test_a_file_that_is_no_account_is_rejected(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(Rejected) as error:
        AwsConnector.at(str(tmp_path / "a.json")).open()
    assert error.value.code == code
    assert error.value.next_step


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as error:
        AwsConnector.at(str(tmp_path / "nothing")).open()
    assert error.value.code == "inventory.source.missing"


def test_one_page_of_several_is_reported(account: Account) -> None:
    account.user("u")
    account.details["IsTruncated"] = True
    assert any(isinstance(fact, Skipped) and "one page" in fact.detail for fact in account.facts())


@pytest.mark.parametrize(
    "change", [{"Path": 5}, {"Arn": 7}, {"Arn": "x"}, {"Tags": [3]}, {"GroupList": 4}, {"PermissionsBoundary": "x"}]
)
def test_a_wrong_type_in_an_entry_skips_that_entry(account: Account, change: dict[str, Any]) -> None:
    account.user("good")
    account.user("bad")
    account.details["UserDetailList"][1].update(change)
    titles = [fact.title for fact in account.facts() if isinstance(fact, IdentityFact)]
    assert "good" in titles
    assert "bad" not in titles


def test_a_time_beyond_all_calendars_is_no_time(account: Account) -> None:
    account.user("u")
    account.details["UserDetailList"][0]["CreateDate"] = "9999-12-31T23:59:59-14:00"
    (user,) = [fact for fact in account.facts() if isinstance(fact, IdentityFact) and fact.title == "u"]
    assert "created" not in user.attributes


@pytest.mark.parametrize("entry", [None, 7, {}, {"UserName": 3}, {"UserName": "x" * 999}, {"UserPolicyList": "no"}])
def test_a_malformed_entry_is_skipped_and_the_rest_read(account: Account, entry: Any) -> None:
    account.user("good")
    account.details["UserDetailList"].insert(0, entry)
    facts = account.facts()
    assert "good" in [fact.title for fact in facts if isinstance(fact, IdentityFact)]
    assert "malformed" in [fact.reason for fact in facts if isinstance(fact, Skipped)]


# --- documents as the command line and people write them


def _assumed(account: Account, trust: Make, attached: list[str] | None = None) -> Account:
    everything = ["arn:aws:iam::aws:policy/AdministratorAccess"] if attached is None else attached
    account.user("u", {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"})
    account.role("mighty", trust({"AWS": f"arn:aws:iam::{_A}:root"}), attached=everything)
    return account


def _is_reached(account: Account) -> bool:
    start, root = name("aws", _A, "user", "u"), name("aws", _A, "root", "root")
    return any(one.node.name == root and not one.conditional for one in account.blast(start))


def test_entries_without_an_arn_have_that_of_their_name(account: Account, trust: Make) -> None:
    _assumed(account, trust).policy("P", {"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    for key in ("UserDetailList", "RoleDetailList"):
        del account.details[key][0]["Arn"]
    assert _is_reached(account)


def test_arns_without_the_account_are_of_the_account(account: Account, trust: Make) -> None:
    _assumed(account, trust).details["AccountId"] = _A
    for key in ("UserDetailList", "RoleDetailList"):
        entry = account.details[key][0]
        entry["Arn"] = entry["Arn"].replace(_A, "")
    assert _is_reached(account)


def test_documents_are_percent_encoded(account: Account, trust: Make) -> None:
    _assumed(account, trust)
    user, role = account.details["UserDetailList"][0], account.details["RoleDetailList"][0]
    user["UserPolicyList"][0]["PolicyDocument"] = quote(json.dumps(user["UserPolicyList"][0]["PolicyDocument"]))
    role["AssumeRolePolicyDocument"] = quote(json.dumps(role["AssumeRolePolicyDocument"]), safe="")
    assert _is_reached(account)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_a_shell_wrote_with_a_byte_order_mark(account: Account, trust: Make, encoding: str) -> None:
    _assumed(account, trust)
    account.path.write_bytes(json.dumps(account.details).encode(encoding))
    connector = AwsConnector(FileSource(account.path))
    connector.open()
    assert connector.instance == _A


def test_a_version_in_force_by_its_number(account: Account, trust: Make) -> None:
    _assumed(account, trust, [f"arn:aws:iam::{_A}:policy/All"])
    account.policy("All", {"Effect": "Allow", "Action": "*", "Resource": "*"})
    entry = account.details["Policies"][0]
    del entry["PolicyVersionList"][0]["IsDefaultVersion"]
    entry["DefaultVersionId"] = "v1"
    assert _is_reached(account)


@pytest.mark.parametrize(
    ("local", "expected"), [("IAMFullAccess", True), ("PowerUserAccess", False), ("job-function/ViewOnlyAccess", False)]
)
def test_the_well_known_policies_of_aws_need_no_document(
    account: Account, trust: Make, local: str, expected: bool
) -> None:
    _assumed(account, trust, [f"arn:aws:iam::aws:policy/{local}"])
    assert _is_reached(account) is expected
    assert not [one for one in account.facts() if isinstance(one, Skipped) and one.reason == "not-permitted"]


def test_a_policy_that_is_only_named_is_found(account: Account, trust: Make) -> None:
    role = _assumed(account, trust).details["RoleDetailList"][0]
    del role["AttachedManagedPolicies"][0]["PolicyArn"]
    assert _is_reached(account)


def test_what_the_account_shows_of_a_policy_of_aws_comes_first(account: Account, trust: Make) -> None:
    arn = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    _assumed(account, trust, [arn]).policy("x", {"Effect": "Allow", "Action": "*", "Resource": "*"})
    account.details["Policies"][0]["Arn"] = arn
    assert _is_reached(account)


@pytest.mark.parametrize("holder", ["role", "group"])
def test_a_policy_without_a_document_is_told(account: Account, trust: Make, holder: str) -> None:
    hidden = f"arn:aws:iam::{_A}:policy/Hidden"
    if holder == "role":
        account.role("r", trust({"AWS": f"arn:aws:iam::{_A}:root"}), attached=[hidden])
    else:
        account.group("g")
        account.details["GroupDetailList"][0]["AttachedManagedPolicies"] = [{"PolicyName": "x", "PolicyArn": hidden}]
        account.user("u", groups=["g"])
    facts = account.facts()
    assert next(one.what for one in facts if isinstance(one, Skipped)) == f"policy {hidden}"
    assert [
        one for one in facts if isinstance(one, IdentityFact) and one.attributes.get("policies_not_shown") == hidden
    ]


def test_a_role_without_its_trust_is_told(account: Account, trust: Make) -> None:
    del _assumed(account, trust).details["RoleDetailList"][0]["AssumeRolePolicyDocument"]
    assert not _is_reached(account)
    assert f"trust policy of arn:aws:iam::{_A}:role/mighty" in [
        one.what for one in account.facts() if isinstance(one, Skipped)
    ]
