"""One account, as its IAM and STS speak of it: roles, their policies and tags, and sessions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from remit.kernel.errors import Rejected
from remit.providers.aws.query import Answer, Keys, Query

_ABSENT: Final = "NoSuchEntity"
_EXISTS: Final = "EntityAlreadyExists"
_MAX_PAGES: Final = 200
Document = Mapping[str, Any]
"""A policy, as IAM's language has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role as IAM shows it."""

    name: str
    arn: str
    path: str
    boundary: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What AssumeRole gave."""

    keys: Keys
    expires: str
    """RFC 3339, as STS says it."""


class Account:
    """IAM and STS as one principal; safe for concurrent calls. Raises what `Query` and `Answer.error` do."""

    def __init__(
        self, keys: Keys, *, region: str, now: Callable[[], datetime], endpoint: str = "", ca: str = ""
    ) -> None:
        self._keys = keys
        iam_url, iam_region, sts_url = _addresses(region)
        self._iam = Query("iam", endpoint or iam_url, region=iam_region, version="2010-05-08", now=now, ca=ca)
        self._sts = Query("sts", endpoint or sts_url, region=region, version="2011-06-15", now=now, ca=ca)

    async def close(self) -> None:
        await self._iam.close()
        await self._sts.close()

    async def caller(self, keys: Keys | None = None) -> Answer:
        """GetCallerIdentity, which every credential that exists may ask; errors are in the answer."""
        return await self._sts.ask(keys or self._keys, "GetCallerIdentity")

    async def create_role(
        self, name: str, *, path: str, trust: Document, boundary: str, seconds: int, about: str, tags: Mapping[str, str]
    ) -> bool:
        """Make a role; `False` where one of that name is there already."""
        values = {"RoleName": name, "Path": path, "AssumeRolePolicyDocument": _json(trust)}
        values |= {"PermissionsBoundary": boundary, "MaxSessionDuration": str(seconds), "Description": about}
        answer = await self._iam.ask_with(self._keys, "CreateRole", values | _tags(tags))
        return answer.code != _EXISTS and bool(answer.judged())

    async def role(self, name: str) -> Role | None:
        """GetRole; `None` where there is none."""
        answer = await self._iam.ask(self._keys, "GetRole", RoleName=name)
        if answer.code == _ABSENT:
            return None
        answer.judged()
        return Role(
            name=answer.text("RoleName"),
            arn=answer.text("Arn"),
            path=answer.text("Path"),
            boundary=answer.text("PermissionsBoundaryArn"),
            tags=_tags_in(answer),
        )

    async def roles(self, path: str) -> list[str]:
        """The names of all roles under `path`."""
        return [name for name in await self._listed("ListRoles", "Roles", "RoleName", PathPrefix=path) if name]

    async def trust(self, name: str, document: Document) -> None:
        await self._done("UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=_json(document))

    async def put_policy(self, name: str, policy: str, document: Document) -> bool:
        """Write an inline policy; `False` where the role is gone."""
        return await self._done("PutRolePolicy", RoleName=name, PolicyName=policy, PolicyDocument=_json(document))

    async def attach(self, name: str, arn: str) -> None:
        (await self._iam.ask(self._keys, "AttachRolePolicy", RoleName=name, PolicyArn=arn)).judged()

    async def inline(self, name: str) -> list[str]:
        """The names of a role's inline policies; none of a role that is gone."""
        return await self._listed("ListRolePolicies", "PolicyNames", "", RoleName=name)

    async def attached(self, name: str) -> list[str]:
        """The ARNs of the policies attached to a role."""
        return await self._listed("ListAttachedRolePolicies", "AttachedPolicies", "PolicyArn", RoleName=name)

    async def delete_policy(self, name: str, policy: str) -> None:
        await self._done("DeleteRolePolicy", RoleName=name, PolicyName=policy)

    async def detach(self, name: str, arn: str) -> None:
        await self._done("DetachRolePolicy", RoleName=name, PolicyArn=arn)

    async def delete_role(self, name: str) -> bool:
        """`False` while something hangs on it."""
        answer = await self._iam.ask(self._keys, "DeleteRole", RoleName=name)
        if answer.code == "DeleteConflict":
            return False
        return answer.code == _ABSENT or bool(answer.judged())

    async def tag(self, name: str, tags: Mapping[str, str]) -> None:
        (await self._iam.ask_with(self._keys, "TagRole", {"RoleName": name, **_tags(tags)})).judged()

    async def look(self, name: str, keys: Keys | None = None) -> Answer:
        """ListRoleTags of a role, as anyone: harmless, and IAM judges it by the policies of who asks."""
        return await self._iam.ask(keys or self._keys, "ListRoleTags", RoleName=name)

    async def policy_exists(self, arn: str) -> bool:
        answer = await self._iam.ask(self._keys, "GetPolicy", PolicyArn=arn)
        return answer.code != _ABSENT and bool(answer.judged())

    async def assume(self, arn: str, values: Mapping[str, str], *, tags: Mapping[str, str]) -> Session | Answer:
        """AssumeRole; the answer where the role does not let us, or not yet."""
        answer = await self._sts.ask_with(self._keys, "AssumeRole", {"RoleArn": arn, **values, **_tags(tags)})
        if answer.refused:
            return answer
        answer.judged()
        keys = Keys(
            id=answer.text("AccessKeyId"), secret=answer.text("SecretAccessKey"), token=answer.text("SessionToken")
        )
        return Session(keys=keys, expires=answer.text("Expiration"))

    async def simulate(
        self, principal: str, actions: Sequence[str], resource: str, context: Mapping[str, str]
    ) -> Mapping[str, bool]:
        """What IAM's simulator says that `principal` may do there."""
        values = {"PolicySourceArn": principal, "ResourceArns.member.1": resource}
        values |= {f"ActionNames.member.{index}": action for index, action in enumerate(actions, 1)}
        for index, (key, value) in enumerate(context.items(), 1):
            values[f"ContextEntries.member.{index}.ContextKeyName"] = key
            values[f"ContextEntries.member.{index}.ContextKeyType"] = "string"
            values[f"ContextEntries.member.{index}.ContextKeyValues.member.1"] = value
        answer = (await self._iam.ask_with(self._keys, "SimulatePrincipalPolicy", values)).judged()
        return {
            one.findtext("{*}EvalActionName") or "": one.findtext("{*}EvalDecision") == "allowed"
            for one in answer.each("EvaluationResults")
        }

    async def _done(self, action: str, **values: str) -> bool:
        """A change of something; `False` where it is gone."""
        answer = await self._iam.ask(self._keys, action, **values)
        return answer.code != _ABSENT and bool(answer.judged())

    async def _listed(self, action: str, members: str, name: str, **values: str) -> list[str]:
        found: list[str] = []
        marker: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            answer = await self._iam.ask(self._keys, action, MaxItems="1000", **values, **marker)
            if answer.code == _ABSENT:
                return []
            for one in answer.judged().each(members):
                found.append(str((one.findtext(f"{{*}}{name}") if name else one.text) or ""))
            if answer.text("IsTruncated") != "true":
                return found
            marker = {"Marker": answer.text("Marker")}
        raise Rejected("providers.aws.refused", f"AWS lists more than {_MAX_PAGES} pages for `iam:{action}`")


def _tags_in(answer: Answer) -> Mapping[str, str]:
    return {one.findtext("{*}Key") or "": one.findtext("{*}Value") or "" for one in answer.each("Tags")}


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, (key, value) in enumerate(tags.items(), 1):
        found |= {f"Tags.member.{index}.Key": key, f"Tags.member.{index}.Value": value}
    return found


def _json(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))


def _addresses(region: str) -> tuple[str, str, str]:
    """IAM's address and region, which it has one of in each partition; and the address of STS in `region`."""
    if region.startswith("cn-"):
        return "https://iam.cn-north-1.amazonaws.com.cn/", "cn-north-1", f"https://sts.{region}.amazonaws.com.cn/"
    sts = f"https://sts.{region}.amazonaws.com/"
    if region.startswith("us-gov-"):
        return "https://iam.us-gov.amazonaws.com/", "us-gov-west-1", sts
    return "https://iam.amazonaws.com/", "us-east-1", sts
