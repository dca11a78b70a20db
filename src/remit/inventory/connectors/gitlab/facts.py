"""One row of GitLab's answers → facts.

Spec: GitLab Docs, "REST API" (deploy keys, deploy tokens, access tokens, variables, runners, triggers, hooks);
"OpenID Connect in GitLab CI", subject `project_path:…:ref_type:branch:ref:…`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from remit.inventory.connectors.aws.naming import subject_name
from remit.inventory.connectors.files.keys import read_ssh_line, sha256
from remit.inventory.connectors.files.readers import gitlab_ci
from remit.inventory.connectors.files.values import is_secret_name, recognise
from remit.inventory.connectors.github.facts import moment
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import Autonomy, CredentialKind, IdentityKind, Relation, Severity
from remit.inventory.oidc_subjects import at_will
from remit.kernel.ids import Name

Row: TypeAlias = Mapping[str, Any]


def _of(sheet: SystemSheet, kind: str, local: str) -> Name:
    return sheet.name("gitlab", sheet.file.host, kind, local)


def _target(sheet: SystemSheet, about: str) -> Name:
    repository = sheet.repository()
    assert repository is not None
    return repository


def _group(sheet: SystemSheet, about: str, row: Row) -> None:
    _target(sheet, about)


def _project(sheet: SystemSheet, about: str, row: Row) -> None:
    """The project, and the subject that clouds see of its pipelines."""
    target = _target(sheet, about)
    pipeline = _pipeline(sheet, about)
    sheet.edge(pipeline, Relation.CAN_REACH, target, "the job token", actions=["default"])
    branch = str(row.get("default_branch") or "main")
    issuer, form = sheet.file.host, f"project_path:{about}:ref_type:branch:ref"
    why = "its jobs may ask for an identity token (`id_tokens`)"
    guarded = row.get("branch_protected")
    rules = [] if guarded is False else [f"the rules of branch {branch} let the change through"]
    sheet.edge(
        pipeline, Relation.ASSUME, subject_name(issuer, f"{form}:{branch}"), why, conditions=rules,
        cut=f"glab api -X POST projects/:id/protected_branches -f name={branch} --repo {about}",
    )  # fmt: skip
    # Who may push makes a branch of any other name: what is protected says so by its name, or by a pattern.
    free = [] if guarded is False else ["no rule protects every branch"]
    sheet.edge(
        pipeline, Relation.ASSUME, at_will(issuer, f"{form}:*"), why, conditions=free,
        cut=f"glab api -X POST projects/:id/protected_branches -f name='*' --repo {about}",
    )  # fmt: skip
    parts = about.split("/")
    for depth in range(1, len(parts) + 1):
        given = _variables(sheet, "/".join(parts[:depth]))
        sheet.edge(pipeline, Relation.CAN_REACH, given, "its jobs are given the variables of project and groups")
    sheet.edge(_of(sheet, "repository", about.rpartition("/")[0]), Relation.CAN_REACH, target, "the group owns it")


def _pipeline(sheet: SystemSheet, about: str) -> Name:
    return sheet.identity(
        _of(sheet, "pipeline", about), IdentityKind.PIPELINE, f"pipelines of {about}",
        attributes={"autonomy": Autonomy.PIPELINE.value, "repository": about},
    )  # fmt: skip


def _definition(sheet: SystemSheet, about: str, row: Row) -> None:
    gitlab_ci.read(sheet)
    of = sheet.name("gitlab", sheet.file.host, "pipeline", f"{about}/{sheet.file.within_repository}")
    sheet.edge(of, Relation.ASSUME, _pipeline(sheet, about), "its jobs have the project's subject at clouds")


def _key(sheet: SystemSheet, about: str, row: Row) -> None:
    words = str(row.get("key", "")).split()
    part = read_ssh_line(words[1] if len(words) > 1 else "")
    title, writes = str(row.get("title") or "deploy key"), row.get("can_push") is True
    local = f"{about}/{part.fingerprint.partition(':')[2][:32]}"
    of = sheet.identity(_of(sheet, "deploy-key", local), IdentityKind.BOT, f"deploy key {title} of {about}")
    sheet.credential(
        part.fingerprint, CredentialKind.SSH_KEY, f"deploy key {title} of {about}", identity=of,
        issued=moment(row.get("created_at")), expires=moment(row.get("expires_at")),
        attributes={"algorithm": part.algorithm, "ssh_fingerprint": part.ssh_fingerprint,
                    "key_id": str(row.get("id", ""))},
    )  # fmt: skip
    sheet.used(part.fingerprint, moment(row.get("last_used_at")))
    cut = f"glab deploy-key delete {row.get('id')} --repo {about}"
    actions = ["read", "write"] if writes else ["read"]
    sheet.edge(of, Relation.CAN_REACH, _target(sheet, about), f"deploy key {title}", actions=actions, cut=cut)
    if writes:
        sheet.edge(of, Relation.DEPLOYS, _pipeline(sheet, about), "it may push, so change pipelines", cut=cut)


def _token(what: str) -> Callable[[SystemSheet, str, Row], None]:
    def read(sheet: SystemSheet, about: str, row: Row) -> None:
        """A token that belongs to the project or group: a bot of its own."""
        if row.get("revoked") is True:
            return
        called, scopes = str(row.get("name") or row["id"]), [str(each) for each in row.get("scopes") or ()]
        expires = moment(row.get("expires_at"))
        of = sheet.identity(
            _of(sheet, what.replace(" ", "-"), f"{about}/{row['id']}"), IdentityKind.BOT, f"{what} {called} of {about}",
            attributes={"username": str(row.get("username") or ""), "created": str(row.get("created_at") or "")},
        )  # fmt: skip
        fingerprint = sha256(f"gitlab-{what}:{sheet.file.host}:{about}:{row['id']}".encode())
        node = sheet.credential(
            fingerprint, CredentialKind.TOKEN, f"{what} {called} of {about}", identity=of,
            issued=moment(row.get("created_at")), expires=expires, manager="gitlab",
            attributes={"scope": ", ".join(scopes), "key_id": str(row["id"])},
        )  # fmt: skip
        sheet.used(fingerprint, moment(row.get("last_used_at")))
        sheet.edge(of, Relation.CAN_REACH, _target(sheet, about), f"{what} {called}", actions=scopes)
        if expires is None:
            sheet.finding(
                "token-without-end", Severity.MEDIUM, f"{what} {called} of {about} does not expire",
                "it stays valid until somebody thinks of it", "make one that ends, then revoke it", subject=node,
            )  # fmt: skip

    return read


def _variables(sheet: SystemSheet, about: str) -> Name:
    """What the jobs of a project, or of every project of a group, are given."""
    return sheet.resource(_of(sheet, "variables", about), "ci-variables", f"CI variables of {about}")


def _variable(sheet: SystemSheet, about: str, row: Row) -> None:
    """A variable by its name; its value becomes a fingerprint where it may be a secret, and is forgotten."""
    called, value = str(row["key"]), str(row.get("value") or "")
    guarded = row.get("protected") is True
    secretive = bool(row.get("masked") or row.get("hidden") or is_secret_name(called) or recognise(value))
    if not secretive:
        return
    sheet.hide(value)
    scope = f"{sheet.file.host}/{about}"
    attributes: dict[str, str | int | bool | None] = {
        "setting": called, "reference": True, "protected": guarded, "masked": row.get("masked") is True,
        "environment_scope": str(row.get("environment_scope") or "*"),
    }  # fmt: skip
    if len(value) >= 8:
        attributes["secret_fingerprint"] = sheet.fingerprint(value.encode("utf-8", "replace"))
    node = sheet.credential(
        sha256(f"gitlab-ci:{scope}:{called}".encode()), CredentialKind.SECRET, f"{called} of {scope}",
        manager="gitlab-ci", holders=[_target(sheet, about)], attributes=attributes,
    )  # fmt: skip
    only = ["the job is one of a protected branch or tag"] * guarded
    if (scoped := str(row.get("environment_scope") or "*")) != "*":
        only.append(f"the job names an environment that matches {scoped}")
    sheet.edge(
        _variables(sheet, about), Relation.HOLDS, node, f"its jobs are given {called}", conditions=only,
        cut=f"glab variable delete {called} --repo {about}",
    )  # fmt: skip
    if not guarded:
        sheet.finding(
            "unprotected-variable", Severity.MEDIUM, f"{called} of {about} is given to every branch",
            "who may push any branch reads it in a job", "protect the variable, and the branches that need it",
            subject=node,
        )  # fmt: skip


def _runner(sheet: SystemSheet, about: str, row: Row) -> None:
    called = str(row.get("description") or row["id"])
    of = sheet.identity(
        _of(sheet, "runner", str(row["id"])), IdentityKind.WORKLOAD, f"runner {called}",
        attributes={"service": "gitlab-runner", "online": row.get("online") is True,
                    "type": str(row.get("runner_type") or "")},
    )  # fmt: skip
    pipeline = _pipeline(sheet, about)
    sheet.edge(of, Relation.ASSUME, pipeline, "its jobs run there: it sees their secrets and tokens")
    locked = ["the job is one of a protected branch"] if row.get("access_level") == "ref_protected" else []
    sheet.edge(
        pipeline, Relation.DEPLOYS, of, "its jobs run there: what they leave behind is the host's", conditions=locked,
        cut=f"glab api -X DELETE runners/{row['id']}",
    )  # fmt: skip


def _trigger(sheet: SystemSheet, about: str, row: Row) -> None:
    fingerprint = sha256(f"gitlab-trigger:{sheet.file.host}:{about}:{row['id']}".encode())
    sheet.hide(str(row.get("token") or ""))
    title = f"pipeline trigger {row.get('description') or row['id']} of {about}"
    of = sheet.identity(_of(sheet, "trigger", f"{about}/{row['id']}"), IdentityKind.BOT, title)
    sheet.credential(fingerprint, CredentialKind.TOKEN, title, identity=of, issued=moment(row.get("created_at")))
    sheet.used(fingerprint, moment(row.get("last_used")))
    sheet.edge(of, Relation.DEPLOYS, _pipeline(sheet, about), "starts pipelines with variables of its choice")


def _hook(sheet: SystemSheet, about: str, row: Row) -> None:
    parts = urlsplit(str(row.get("url") or ""))
    host = parts.hostname or "unknown"
    for hidden in parts.path.split("/"):
        sheet.hide(hidden)
    of = sheet.identity(
        _of(sheet, "webhook", f"{about}/{row['id']}"), IdentityKind.BOT, f"webhook of {about} to {host}",
        attributes={"host": host, "created": str(row.get("created_at") or "")},
    )  # fmt: skip
    endpoint = sheet.resource(sheet.name("http", host, "endpoint", host), "http-endpoint", host)
    sheet.edge(of, Relation.CAN_REACH, endpoint, "it sends events there", actions=["send"])
    if parts.scheme == "http" or row.get("enable_ssl_verification") is False:
        sheet.finding(
            "webhook-unverified", Severity.MEDIUM, f"the webhook of {about} to {host} is sent without verified TLS",
            "who is on the way reads and changes it", "use https, and verify it", subject=of,
        )  # fmt: skip


def _service_account(sheet: SystemSheet, about: str, row: Row) -> None:
    login = str(row["username"])
    of = sheet.identity(_of(sheet, "user", login), IdentityKind.SERVICE_ACCOUNT, str(row.get("name") or login))
    sheet.edge(of, Relation.CAN_REACH, _target(sheet, about), "service account of the group", actions=["member"])


FACTS: Final[Mapping[str, Callable[[SystemSheet, str, Row], None]]] = {
    "group": _group,
    "project": _project,
    "pipeline": _definition,
    "key": _key,
    "token": _token("access token"),
    "deploy-token": _token("deploy token"),
    "variable": _variable,
    "runner": _runner,
    "trigger": _trigger,
    "hook": _hook,
    "service-account": _service_account,
}
