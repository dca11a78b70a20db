"""moto's IAM, STS and S3 as a server, with the rules that moto leaves out, each as IAM's reference has it: conditions,
permissions boundaries, session policies, and that a session ends with its role. Signatures, keys, roles, policies,
errors and wire formats are moto's own.

A program: each line on its standard input makes it fork a server with an empty account, and print its port. Loading
takes seconds, forking milliseconds.

Spec: IAM, "Policy evaluation logic"; "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any

ACCOUNT = "123456789012"


def values(said: Any) -> list[str]:
    return [str(one) for one in said] if isinstance(said, list) else [str(said)]


def holds(conditions: dict[str, dict[str, Any]], context: dict[str, str]) -> bool:
    return all(
        one(operator, values(expected), context.get(key))
        for operator, pairs in conditions.items()
        for key, expected in pairs.items()
    )


def one(operator: str, expected: list[str], actual: str | None) -> bool:
    """An operator that is not known here is a bug of the test."""
    if actual is None:
        return False
    match operator:
        case "StringEquals":
            return actual in expected
        case "ArnEquals":
            return any(fnmatch.fnmatchcase(actual, each) for each in expected)
        case "DateGreaterThan" | "DateLessThan":
            now, then = datetime.fromisoformat(actual), datetime.fromisoformat(expected[0])
            return now > then if operator == "DateGreaterThan" else now < then
    raise AssertionError(operator)


def verdict(documents: list[str], action: str, resource: str, context: dict[str, str], who: str = "") -> bool | None:
    """Allowed, denied, or not spoken of."""
    found: bool | None = None
    for document in documents:
        said = json.loads(document)["Statement"]
        for statement in said if isinstance(said, list) else [said]:
            if not any(fnmatch.fnmatchcase(action.lower(), each.lower()) for each in values(statement["Action"])):
                continue
            if "Principal" in statement and who not in values(statement["Principal"]["AWS"]):
                continue
            if not any(fnmatch.fnmatchcase(resource, each) for each in values(statement.get("Resource", "*"))):
                continue
            if not holds(statement.get("Condition", {}), context):
                continue
            if statement["Effect"] == "Deny":
                return False
            found = True
    return found


def text(policy: Any) -> str:
    """A policy as moto has it, in its three shapes."""
    if hasattr(policy, "versions"):
        return str(next(each.document for each in policy.versions if each.is_default))
    return str(policy["policy_document"] if isinstance(policy, dict) else policy)


def install() -> None:
    from moto.core.responses import ActionResult
    from moto.iam import access_control as judge
    from moto.iam.exceptions import NotFoundException
    from moto.iam.responses import IamResponse
    from moto.sts.models import sts_backends
    from moto.sts.responses import TokenResponse

    assume = TokenResponse.assume_role

    def remembered(self: Any) -> Any:
        result = assume(self)
        session = result.result["Credentials"]
        arns = [said[0] for key, said in self.querystring.items() if key.startswith("PolicyArns.member.")]
        session.asked = {"policy": session.policy, "arns": arns}
        return result

    def resource_of(self: Any) -> str:
        name = (self.data.get("RoleName") or self.data.get("PolicyArn") or ["*"])[0]
        if "PolicySourceArn" in self.data:
            return str(self.data["PolicySourceArn"][0])
        if "RoleName" not in self.data:
            return name
        path = self.data.get("Path", [""])[0]
        try:
            return str(self.backend.get_role("" if path else name).arn)
        except NotFoundException:
            path = path or "/"
            return f"arn:aws:iam::{self.current_account}:role{path}{name}"

    def context_of(self: Any, role: Any) -> dict[str, str]:
        names = {"ExternalId": "sts:ExternalId", "SourceIdentity": "sts:SourceIdentity", "PolicyArn": "iam:PolicyARN"}
        context = {names[key]: said[0] for key, said in self._data.items() if key in names}
        context["aws:CurrentTime"] = datetime.now(UTC).isoformat()
        boundary = (self._data.get("PermissionsBoundary") or [role.permissions_boundary_arn if role else None])[0]
        return context | ({"iam:PermissionsBoundary": boundary} if boundary else {})

    def permitted(self: Any, resource: str) -> None:
        key, action = self._access_key, self._action
        sets = []
        if isinstance(key, judge.AssumedRoleAccessKey):
            try:
                own = self.backend.get_role(key._owner_role_name)
            except NotFoundException:
                self._raise_invalid_access_key("InvalidId")
            session = sts_backends[self.account_id]["aws"].get_assumed_role_from_access_key(key._access_key_id)
            managed = [text(self.backend.get_policy(arn)) for arn in session.asked["arns"]]
            sets = [[*managed, session.asked["policy"]], [text(self.backend.get_policy(own.permissions_boundary_arn))]]
        if action == "sts:GetCallerIdentity":
            return
        name = (self._data.get("RoleName") or [resource.rpartition("/")[2]])[0]
        role = next((each for each in self.backend.get_roles() if each.name == name), None)
        context = context_of(self, role)
        sets.append([text(policy) for policy in key.collect_policies()])
        if not all(verdict(documents, action, resource, context) for documents in sets):
            self._raise_access_denied()
        if action == "sts:AssumeRole":
            for verb in ("sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"):
                allowed = role and verdict([role.assume_role_policy_document], verb, "*", context, key.arn)
                if not allowed or not verdict(sets[-1], verb, resource, context):
                    self._raise_access_denied()

    def simulated(self: Any) -> Any:
        """SimulatePrincipalPolicy, for users: moto has none."""
        said = {key: value[0] for key, value in self.querystring.items()}
        user = said["PolicySourceArn"].rpartition("/")[2]
        rights = [self.backend.get_user_policy(user, name) for name in self.backend.list_user_policies(user)]
        entry = "ContextEntries.member.1."
        given = f"{entry}ContextKeyName" in said
        context = {said[f"{entry}ContextKeyName"]: said[f"{entry}ContextKeyValues.member.1"]} if given else {}
        found = []
        for action in (value for key, value in said.items() if key.startswith("ActionNames.")):
            may = verdict([text(one) for one in rights], action, said["ResourceArns.member.1"], context)
            found.append({"EvalActionName": action, "EvalDecision": "allowed" if may else "implicitDeny"})
        return ActionResult({"EvaluationResults": found, "IsTruncated": False})

    IamResponse.simulate_principal_policy = simulated  # type: ignore[attr-defined]
    TokenResponse.assume_role = remembered  # type: ignore[method-assign]
    IamResponse._determine_resource = resource_of  # type: ignore[method-assign]
    judge.IAMRequestBase.check_action_permitted = permitted  # type: ignore[method-assign]


def serve() -> None:
    """One server, until it is ended."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    sys.stdout.write(f"{os.getpid()} {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def main() -> None:
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    import moto.s3.models
    import moto.server
    from moto.iam.models import iam_backends

    install()
    assert iam_backends[ACCOUNT]["aws"]
    for service in ("iam", "sts", "s3"):
        moto.server.create_backend_app(service)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    children = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            serve()
        children.append(child)
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
