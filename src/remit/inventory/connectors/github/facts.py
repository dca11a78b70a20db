"""One row of GitHub's answers → facts, on a sheet of the repository or organisation that it is about.

Spec: GitHub REST API 2022-11-28; GitHub Docs, "OpenID Connect reference" (subject claims).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from remit.inventory.connectors.aws.naming import GITHUB, pipeline_name, subject_name
from remit.inventory.connectors.files.formats import Malformed, decode
from remit.inventory.connectors.files.keys import read_ssh_line, sha256
from remit.inventory.connectors.files.pem import weak_key
from remit.inventory.connectors.files.record import FileRead, Repository
from remit.inventory.connectors.github.subjects import gates_of, pushes, subject, subjects
from remit.inventory.connectors.github.workflows import read_workflow
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import Autonomy, CredentialKind, IdentityKind, Relation, Severity
from remit.inventory.oidc_subjects import at_will
from remit.inventory.owners import parse_codeowners, propose
from remit.kernel.ids import Name

Row: TypeAlias = Mapping[str, Any]
STALE: Final = timedelta(days=90)


def sheet_of(about: str, forge: str, scan: Scan, row: Row, context: Row) -> SystemSheet:
    """A sheet whose file is the workflow of the row, or nothing; what lies in clear is held by the repository."""
    inner = f"/{row.get('path', '')}" if isinstance(row.get("data"), bytes) else "/"
    rules = parse_codeowners(decode(context.get("owners") or b""))
    at = Repository(root="/", git_dir="/.git", forge=forge, slug=about, owner_rules=rules) if "/" in about else None
    data = row["data"] if isinstance(row.get("data"), bytes) else b""
    file = FileRead(path=inner, reader="github", data=data, host=forge, account=about, repository=at)
    sheet = SystemSheet(file, scan, rules="github", system=f"github:{forge}", path=f"{about}{inner}".rstrip("/"))
    return SystemSheet(
        file, scan, rules="github", system=f"github:{forge}", path=f"{about}{inner}".rstrip("/"),
        keeper=sheet.repository(),
    )  # fmt: skip


def moment(value: Any) -> datetime | None:
    """A time as the API writes it; `None` of anything else."""
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) and value else None
    except ValueError:
        return None


def _forge(sheet: SystemSheet) -> str:
    return sheet.file.host


def _of(sheet: SystemSheet, kind: str, local: str) -> Name:
    return sheet.name("github", _forge(sheet), kind, local)


def _target(sheet: SystemSheet, about: str) -> Name:
    """The repository or organisation itself."""
    repository = sheet.repository()
    if repository is not None:
        return repository
    return sheet.resource(_of(sheet, "organization", about), "organization", f"{_forge(sheet)}/{about}")


def _pipeline(sheet: SystemSheet, slug: str) -> Name:
    of = pipeline_name(slug) if _forge(sheet) == "github.com" else _of(sheet, "pipeline", slug)
    return sheet.identity(
        of, IdentityKind.PIPELINE, f"workflows of {slug}",
        attributes={"autonomy": Autonomy.PIPELINE.value, "repository": slug},
    )  # fmt: skip


def _pipelines(sheet: SystemSheet, org: str) -> Name:
    """The hub for whoever may push to any repository of an organisation."""
    of = _of(sheet, "pipelines", org)
    return sheet.resource(of, "pipelines", f"workflows of any repository of {org}")


def _organisation(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    _target(sheet, about)


def _repository(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    """The repository, the identity of its workflows, and the subjects by which clouds know them."""
    repository = _target(sheet, about)
    pipeline = _pipeline(sheet, about)
    sheet.edge(pipeline, Relation.CAN_REACH, repository, "the workflows' own token", actions=["default"])
    branch = str(context.get("branch", "main"))
    if _forge(sheet) == "github.com":
        for each in subjects(about, branch, context):
            sheet.edge(
                pipeline, Relation.ASSUME, subject_name(GITHUB, each.text), f"{GITHUB} gives its runs this subject",
                conditions=list(each.conditions), cut=f"protect branch {branch} of {about}",
            )  # fmt: skip
        # Who may push makes a branch of any name; what protects the default one may protect others.
        form = subject(about, "ref:refs/heads/*", [str(each) for each in context.get("subject_keys") or ()])
        free = [] if context.get("protected") is False else ["no rule keeps it from making another branch"]
        sheet.edge(
            pipeline, Relation.ASSUME, at_will(GITHUB, form), f"{GITHUB} gives its runs subjects of this form",
            conditions=free, cut=f"a ruleset of {about} that restricts who creates branches",
        )  # fmt: skip
    every = _pipelines(sheet, about.partition("/")[0])
    sheet.edge(every, Relation.DEPLOYS, pipeline, f"{about} is one of the repositories")
    organisation = _of(sheet, "organization", about.partition("/")[0])
    sheet.edge(organisation, Relation.CAN_REACH, repository, "the organisation owns it")


def _key(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    words = str(row.get("key", "")).split()
    part = read_ssh_line(words[1] if len(words) > 1 else "")
    title, repository = str(row.get("title") or "deploy key"), _target(sheet, about)
    of = sheet.identity(
        _of(sheet, "deploy-key", f"{about}/{part.fingerprint.partition(':')[2][:32]}"), IdentityKind.BOT,
        f"deploy key {title} of {about}",
        attributes={
            "created": str(row.get("created_at") or ""), "last_used": str(row.get("last_used") or ""),
            "purpose": title, "added_by": str(row.get("added_by") or ""),
        },
    )  # fmt: skip
    node = sheet.credential(
        part.fingerprint, CredentialKind.SSH_KEY, f"deploy key {title} of {about}", identity=of,
        issued=moment(row.get("created_at")),
        attributes={"algorithm": part.algorithm, "bits": part.bits, "ssh_fingerprint": part.ssh_fingerprint,
                    "key_id": str(row.get("id", ""))},
    )  # fmt: skip
    sheet.used(part.fingerprint, moment(row.get("last_used")))
    writes = row.get("read_only") is not True
    cut = f"gh repo deploy-key delete {row.get('id')} --repo {about}"
    actions = ["read", "write"] if writes else ["read"]
    sheet.edge(of, Relation.CAN_REACH, repository, f"deploy key {title}", actions=actions, cut=cut)
    if writes:
        # A push to any branch runs the workflow that the push itself brings; which subjects it gets is the pipeline's.
        sheet.edge(of, Relation.DEPLOYS, _pipeline(sheet, about), "it may push, so change workflows", cut=cut)
    if part.is_weak:
        weak_key(sheet, node, f"deploy key {title}", None)
    _stale(sheet, node, f"deploy key {title} of {about}", row.get("last_used"), row.get("created_at"), cut)


def _stale(sheet: SystemSheet, node: Name, what: str, used: Any, made: Any, cut: str) -> None:
    last = moment(used) or moment(made)
    if last is not None and sheet.now - last > STALE:
        sheet.finding(
            "unused-credential", Severity.MEDIUM, f"{what} was not used for {(sheet.now - last).days} days",
            "nobody would miss it, and nobody would notice that somebody else uses it", f"`{cut}`", subject=node,
        )  # fmt: skip


def _hook(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    """A webhook: what happens here goes there; its secret is known to exist, never its value."""
    config = row.get("config") or {}
    url = str(config.get("url") or "")
    parts = urlsplit(url)
    host = parts.hostname or "unknown"
    of = sheet.identity(
        _of(sheet, "webhook", f"{about}/{row.get('id')}"), IdentityKind.BOT, f"webhook of {about} to {host}",
        attributes={"host": host, "active": row.get("active") is True,
                    "events": ", ".join(map(str, row.get("events") or ())),
                    "created": str(row.get("created_at") or "")},
    )  # fmt: skip
    endpoint = sheet.resource(sheet.name("http", host, "endpoint", host), "http-endpoint", host)
    sheet.edge(of, Relation.CAN_REACH, endpoint, "it sends events there", actions=["send"])
    cut = f"gh api -X DELETE {'repos' if '/' in about else 'orgs'}/{about}/hooks/{row.get('id')}"
    if config.get("secret"):
        fingerprint = sha256(f"github-webhook:{_forge(sheet)}/{about}:{row.get('id')}".encode())
        attributes = {"reference": True}
        sheet.credential(
            fingerprint, CredentialKind.SECRET, f"secret of the webhook of {about} to {host}", identity=of,
            manager="github", attributes=dict(attributes),
        )  # fmt: skip
    elif row.get("active") is True:
        _loose_hook(sheet, of, about, host, "has no secret", "anybody can send it forged events", cut)
    if parts.scheme == "http" or str(config.get("insecure_ssl", "0")) == "1":
        _loose_hook(
            sheet, of, about, host, "is sent without verified TLS", "who is on the way reads and changes it", cut
        )
    for part in (parts.password or "", *parts.path.split("/")):
        if part:
            sheet.hide(part)


def _loose_hook(sheet: SystemSheet, of: Name, about: str, host: str, what: str, why: str, cut: str) -> None:
    sheet.finding(
        f"webhook-{'secretless' if 'secret' in what else 'unverified'}", Severity.MEDIUM,
        f"the webhook of {about} to {host} {what}", why, f"set it in the webhook's settings, or `{cut}`", subject=of,
    )  # fmt: skip


def _installation(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    app, permissions = str(row.get("app_slug") or row.get("app_id")), row.get("permissions") or {}
    selection = str(row.get("repository_selection") or "all")
    actions = [f"{scope}:{level}" for scope, level in sorted(permissions.items())]
    of = sheet.identity(
        _of(sheet, "app", app), IdentityKind.VENDOR, f"GitHub App {app}",
        attributes={"app_id": str(row.get("app_id", "")), "created": str(row.get("created_at") or ""),
                    "events": ", ".join(map(str, row.get("events") or ())), "repositories": selection,
                    "suspended": bool(row.get("suspended_at")), "autonomy": Autonomy.AUTONOMOUS.value},
    )  # fmt: skip
    settings = f"https://{_forge(sheet)}/organizations/{about}/settings/installations/{row.get('id')}"
    sheet.edge(
        of, Relation.CAN_REACH, _target(sheet, about), f"installed, repositories: {selection}", actions=actions,
        conditions=[] if selection == "all" else ["only the repositories that were selected"],
        cut=f"gh api -X DELETE /app/installations/{row.get('id')} (as the app), or uninstall it at {settings}",
    )  # fmt: skip
    if (given := pushes(actions)) is not None and not row.get("suspended_at"):
        only = [] if selection == "all" else ["the repository was selected for the app"]
        sheet.edge(
            of, Relation.DEPLOYS, _pipelines(sheet, about), "it may push", conditions=[*given, *only],
            cut=f"take contents:write from the app, or uninstall it at {settings}",
        )  # fmt: skip
    strong = [each for each in actions if each.endswith((":write", ":admin")) and each.split(":")[0] in _STRONG]
    if strong and selection == "all" and not row.get("suspended_at"):
        sheet.finding(
            "app-over-all-repositories", Severity.MEDIUM, f"the app {app} may change every repository of {about}",
            f"it has {', '.join(strong)}; its publisher's key opens all of them",
            f"select repositories at {settings}; `remit blast {of}` shows what it reaches", subject=of,
        )  # fmt: skip


_STRONG: Final = frozenset({"contents", "workflows", "administration", "secrets", "actions", "organization_secrets",
                            "members", "organization_administration", "environments"})  # fmt: skip


def _pat(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    login, token = str((row.get("owner") or {}).get("login", "unknown")), row.get("token_id") or row.get("id")
    who = sheet.identity(_of(sheet, "user", login), IdentityKind.BOT, login, attributes={"login": login})
    fingerprint = sha256(f"github-pat:{_forge(sheet)}:{token}".encode())
    granted = row.get("permissions") or {}
    actions = [
        f"{scope}:{level}" for part in ("organization", "repository")
        for scope, level in sorted((granted.get(part) or {}).items())
    ]  # fmt: skip
    called = str(row.get("token_name") or token)
    node = sheet.credential(
        fingerprint, CredentialKind.TOKEN, f"fine-grained token {called} of {login}", identity=who,
        issued=moment(row.get("access_granted_at")), expires=moment(row.get("token_expires_at")), manager="github",
        attributes={"key_id": str(token), "expired": row.get("token_expired") is True, "scope": ", ".join(actions),
                    "repositories": str(row.get("repository_selection") or "")},
    )  # fmt: skip
    sheet.used(fingerprint, moment(row.get("token_last_used_at")))
    cut = f"gh api -X POST orgs/{about}/personal-access-tokens/{row.get('id')} -f action=revoke"
    sheet.edge(who, Relation.CAN_REACH, _target(sheet, about), f"token {called}", actions=actions, cut=cut)
    if row.get("token_expired") is not True:
        if (given_to := pushes(actions)) is not None:
            only = [] if row.get("repository_selection") == "all" else ["the repository was selected for the token"]
            sheet.edge(
                who, Relation.DEPLOYS, _pipelines(sheet, about), f"token {called} may push", cut=cut,
                conditions=[*given_to, *only],
            )  # fmt: skip
        _stale(
            sheet, node, f"token {called} of {login}", row.get("token_last_used_at"), row.get("access_granted_at"), cut
        )
        if not row.get("token_expires_at"):
            sheet.finding(
                "token-without-end", Severity.MEDIUM, f"token {called} of {login} does not expire",
                "it stays valid until somebody thinks of it", f"make one that ends, then `{cut}`", subject=node,
            )  # fmt: skip


def _secret(program: str) -> Callable[[SystemSheet, str, Row, Row], None]:
    def read(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
        """A secret by its name, as workflows refer to it."""
        called, environment = str(row["name"]).upper(), str(context.get("environment", ""))
        scope = f"{_forge(sheet)}/{about}" + (f"/environments/{environment}" if environment else "")
        holder = _environment_name(sheet, about, environment) if environment else _target(sheet, about)
        sheet.credential(
            sha256(f"{program}:{scope}:{called}".encode()), CredentialKind.SECRET, f"{called} of {scope}",
            manager=program, holders=[holder], issued=moment(row.get("created_at")),
            attributes={"setting": called, "reference": True, "changed": str(row.get("updated_at") or ""),
                        "visibility": str(row.get("visibility") or "")},
        )  # fmt: skip
        changed = moment(row.get("updated_at"))
        if changed is not None and sheet.now - changed > 4 * STALE:
            sheet.finding(
                "old-secret", Severity.LOW, f"{called} of {scope} is {(sheet.now - changed).days} days old",
                "everybody who could change a workflow in that time may have it",
                "replace it, or let the workflow prove itself by an identity token",
            )  # fmt: skip

    return read


def _variable(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    """A variable: GitHub gives its value to every reader; one that is a secret becomes a fingerprint at once."""
    from remit.inventory.connectors.files.environment import record_settings
    from remit.inventory.connectors.files.formats import Setting

    holder = _target(sheet, about)
    setting = Setting("", str(row.get("name", "")), str(row.get("value") or ""), 1)
    record_settings(sheet, [setting], holders=[holder])


def _environment_name(sheet: SystemSheet, about: str, environment: str) -> Name:
    return sheet.resource(
        _of(sheet, "environment", f"{about}/{environment}"), "environment", f"environment {environment} of {about}"
    )


def _environment(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    called = str(row["name"])
    rules = {str(rule.get("type")): rule for rule in row.get("protection_rules") or ()}
    reviewers = len((rules.get("required_reviewers") or {}).get("reviewers") or ())
    policy = row.get("deployment_branch_policy")
    of = sheet.resource(
        _of(sheet, "environment", f"{about}/{called}"), "environment", f"environment {called} of {about}",
        reviewers=reviewers, branch_policy=policy is not None, environment=called,
    )  # fmt: skip
    pipeline = _pipeline(sheet, about)
    gates = gates_of(row)
    cut = f"require reviewers for environment {called} of {about}, or allow protected branches only"
    sheet.edge(pipeline, Relation.CAN_REACH, of, "its jobs may name the environment", conditions=gates, cut=cut)
    if _forge(sheet) == "github.com":
        text = subject(about, f"environment:{called}", [str(each) for each in context.get("subject_keys") or ()])
        sheet.edge(
            pipeline, Relation.ASSUME, subject_name(GITHUB, text), f"{GITHUB} gives its runs this subject",
            conditions=gates, cut=cut,
        )  # fmt: skip
    if not reviewers and policy is None and "prod" in called.lower():
        sheet.finding(
            "unprotected-environment", Severity.MEDIUM, f"environment {called} of {about} protects nothing",
            "a job on any branch gets its secrets and its identity-token subject",
            "require reviewers, or allow protected branches only", subject=of,
        )  # fmt: skip


def _runner(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    called = str(row["name"])
    labels = ", ".join(str(each.get("name")) for each in row.get("labels") or ())
    of = sheet.identity(
        _of(sheet, "runner", f"{about}/{called}"), IdentityKind.WORKLOAD, f"runner {called} of {about}",
        attributes={"service": "actions-runner", "os": str(row.get("os", "")), "labels": labels,
                    "online": row.get("status") == "online"},
    )  # fmt: skip
    if "/" in about:
        pipeline = _pipeline(sheet, about)
        sheet.edge(of, Relation.ASSUME, pipeline, "its workflows run there: it sees their secrets and tokens")
        sheet.edge(
            pipeline, Relation.DEPLOYS, of, "its jobs run there: what they leave behind is the host's",
            cut=f"gh api -X DELETE repos/{about}/actions/runners/{row.get('id')}",
        )  # fmt: skip
        if context.get("private") is False:
            sheet.finding(
                "runner-of-public-repository", Severity.HIGH, f"runner {called} runs what strangers propose to {about}",
                "a pull request of a fork can run on it, and stay there",
                "use hosted runners for public repositories, or require approval for every outside contributor",
                subject=of,
            )  # fmt: skip
    else:
        sheet.edge(of, Relation.CAN_REACH, _target(sheet, about), "runs jobs of its repositories", actions=["run"])


def _person(what: str) -> Callable[[SystemSheet, str, Row, Row], None]:
    def read(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
        login = str(row["login"])
        kind = IdentityKind.VENDOR if what == "outside collaborator" else IdentityKind.BOT
        of = sheet.identity(
            _of(sheet, "user", login), kind, f"{login} ({what} of {about})", attributes={"login": login, "role": what}
        )
        sheet.edge(of, Relation.CAN_REACH, _target(sheet, about), what, actions=[what])
        sheet.edge(
            of, Relation.DEPLOYS, _pipelines(sheet, about), what, conditions=["it was given the right to push there"],
            cut=f"gh api -X DELETE orgs/{about}/{'outside_collaborators' if 'outside' in what else 'members'}/{login}",
        )  # fmt: skip

    return read


def _subject(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    """How the subject of identity tokens is made here, where it was changed."""
    keys = [str(each) for each in row.get("include_claim_keys") or ()]
    if keys and row.get("use_default") is not True and "/" in about:
        title, attributes = f"workflows of {about}", {"oidc_subject": ", ".join(keys), "repository": about}
        of = pipeline_name(about) if _forge(sheet) == "github.com" else _of(sheet, "pipeline", about)
        sheet.identity(of, IdentityKind.PIPELINE, title, attributes=dict(attributes))
        if "repo" not in keys and "repository" not in keys and "repository_id" not in keys:
            sheet.finding(
                "subject-without-repository", Severity.MEDIUM, f"identity tokens of {about} do not name the repository",
                f"their subject is made of {', '.join(keys)}: another repository may get the same one",
                "put `repo` first into the subject's claims", subject=of,
            )  # fmt: skip


def _workflow(sheet: SystemSheet, about: str, row: Row, context: Row) -> None:
    try:
        workflow = read_workflow(sheet, about, _pipeline(sheet, about), context)
    except Malformed as error:
        sheet.skip("malformed", str(error))
        return
    if workflow is None or sheet.file.repository is None:
        return
    found = propose(
        workflow, rules=sheet.file.repository.owner_rules, path=sheet.file.within_repository, authors=(),
        comments=(), place=sheet.place(), weight=100,
    )  # fmt: skip
    for owner in found:
        sheet.owner(owner)


FACTS: Final[Mapping[str, Callable[[SystemSheet, str, Row, Row], None]]] = {
    "organisation": _organisation,
    "repository": _repository,
    "key": _key,
    "hook": _hook,
    "installation": _installation,
    "pat": _pat,
    "secret": _secret("github-actions"),
    "dependabot": _secret("github-dependabot"),
    "variable": _variable,
    "environment": _environment,
    "runner": _runner,
    "outsider": _person("outside collaborator"),
    "member": _person("machine user"),
    "subject": _subject,
    "workflow": _workflow,
}
