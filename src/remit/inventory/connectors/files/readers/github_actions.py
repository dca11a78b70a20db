"""GitHub Actions: each workflow is a pipeline identity; which secrets, roles and foreign code it takes in.

Spec: GitHub Docs, "Workflow syntax", "OpenID Connect", "Security hardening for GitHub Actions".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import record_settings, settings_of
from remit.inventory.connectors.files.formats import Document, Malformed, Path, Tree, decode, mapping, sequence, text
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.readers.cloud import aws_role, azure_application, google_account
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import Attribute, Autonomy, CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name

_SECRET = re.compile(r"\bsecrets\s*(?:\.\s*([A-Za-z_]\w{0,99})|\[\s*'([A-Za-z_]\w{0,99})'\s*\])")
_INJECTION = re.compile(
    r"\$\{\{[^}]{0,200}\bgithub\.(?:event\.(?:issue\.(?:title|body)|pull_request\.(?:title|body|head\.(?:ref|label|repo\.default_branch))|"
    r"comment\.body|review\.body|review_comment\.body|head_commit\.(?:message|author\.\w+)|discussion\.(?:title|body))|head_ref)\b[^}]{0,200}\}\}"
)
MAX_STEPS = 2_000


def read(sheet: Sheet) -> None:
    """Record the pipeline and everything that gives it, or whom it trusts with, authority."""
    documents = parse_yaml(sheet.file.data)
    root = mapping(documents[0].value) if documents else {}
    if "jobs" not in root:
        if "runs" in root:
            return  # an action's own definition
        raise Malformed("a workflow without jobs")
    document = documents[0]
    triggers = _triggers(root)
    pipeline = _pipeline(sheet, root, triggers)
    _read_secrets(sheet, pipeline)
    record_settings(sheet, settings_of(document, "env"), holders=[pipeline])
    for job_name, job in mapping(root.get("jobs")).items():
        _read_job(sheet, document, pipeline, root, job_name, mapping(job))
    _findings(sheet, root, triggers, pipeline, document)


def _triggers(root: Mapping[str, Tree]) -> set[str]:
    # `on` is a boolean of YAML 1.1; our parser keeps it as text.
    on = root.get("on")
    if isinstance(on, dict):
        return set(on)
    return {text(item) for item in on} if isinstance(on, list) else {text(on)}


def _pipeline(sheet: Sheet, root: Mapping[str, Tree], triggers: set[str]) -> Name:
    at = sheet.file.repository
    if at and at.slug:
        of = sheet.name(at.system, at.forge, "workflow", f"{at.slug}/{sheet.file.within_repository}")
        title = f"{at.slug} {sheet.file.name}"
    else:
        of = sheet.name("host", sheet.file.host, "workflow", sheet.file.path)
        title = f"workflow {sheet.file.name}"
    attributes: dict[str, Attribute] = {
        "autonomy": Autonomy.PIPELINE.value, "purpose": text(root.get("name")), "triggers": ", ".join(sorted(triggers)),
        "repository": at.slug if at else "", "permissions": _permissions(root.get("permissions")),
    }  # fmt: skip
    pipeline = sheet.identity(of, IdentityKind.PIPELINE, title, attributes=attributes)
    if (repository := sheet.repository()) is not None:
        scopes = _scopes(root)
        sheet.edge(pipeline, Relation.CAN_REACH, repository, "the workflow's own token", actions=scopes or ["default"])
    return pipeline


def _permissions(value: Tree) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{scope}:{text(level)}" for scope, level in value.items())
    return text(value)


def _scopes(root: Mapping[str, Tree]) -> list[str]:
    jobs = [mapping(job) for job in mapping(root.get("jobs")).values()]
    given = [root.get("permissions"), *(job.get("permissions") for job in jobs)]
    return sorted(
        {f"{clean(scope, 40)}:{clean(text(level), 10)}" for block in given for scope, level in mapping(block).items()}
    )[:50]


def _read_secrets(sheet: Sheet, pipeline: Name) -> None:
    """A reference is a credential that the forge manages: known by its name, never by a value."""
    at = sheet.file.repository
    scope = f"{at.forge}/{at.slug}" if at and at.slug else f"{sheet.file.host}{sheet.file.path}"
    for number, line in enumerate(decode(sheet.file.data).splitlines(), 1):
        for found in _SECRET.finditer(line):
            secret = (found.group(1) or found.group(2)).upper()
            if secret != "GITHUB_TOKEN":
                sheet.credential(
                    sha256(f"github-actions:{scope}:{secret}".encode()),
                    CredentialKind.SECRET,
                    f"{secret} of {scope}",
                    line=number,
                    manager="github-actions",
                    holders=[pipeline],
                    attributes={"setting": secret, "reference": True},
                )


def _read_job(
    sheet: Sheet, document: Document, pipeline: Name, root: Mapping[str, Tree], job_name: str, job: Mapping[str, Tree]
) -> None:
    path: Path = ("jobs", job_name)
    record_settings(sheet, settings_of(document, *path, "env"), holders=[pipeline])
    if uses := text(job.get("uses")):
        _foreign(sheet, pipeline, uses, document.line(*path, "uses"))
    may_prove = _may_prove(job) if "permissions" in job else _may_prove(root)
    environment = job.get("environment")
    where = text(environment) or text(mapping(environment).get("name"))
    for place, step in _steps(path, job):
        line = document.line(*place)
        record_settings(sheet, settings_of(document, *place, "env"), holders=[pipeline])
        uses = text(step.get("uses"))
        if uses:
            _foreign(sheet, pipeline, uses, document.line(*place, "uses"))
            record_settings(sheet, settings_of(document, *place, "with"), holders=[pipeline])
            _federate(sheet, pipeline, uses, mapping(step.get("with")), may_prove, where, line)
        if _INJECTION.search(text(step.get("run"))):
            sheet.finding(
                "script-injection",
                Severity.HIGH,
                f"{sheet.file.name} runs text that strangers write",
                f"job {clean(job_name, 60)} puts a title, body or branch name of an event into a script",
                "give it to the script as an environment variable and quote it there",
                subject=pipeline,
                line=document.line(*place, "run"),
            )


def _steps(path: Path, job: Mapping[str, Tree]) -> Iterator[tuple[Path, Mapping[str, Tree]]]:
    for index, step in enumerate(sequence(job.get("steps"))[:MAX_STEPS]):
        if isinstance(step, dict):
            yield (*path, "steps", index), step


def _may_prove(holder: Mapping[str, Tree]) -> bool:
    permissions = holder.get("permissions")
    return permissions == "write-all" or text(mapping(permissions).get("id-token")) == "write"


def _foreign(sheet: Sheet, pipeline: Name, uses: str, line: int | None) -> None:
    """Code of others that runs with the pipeline's rights; a tag can be moved, a commit cannot."""
    found = re.fullmatch(r"([\w.-]{1,100})/([\w.-]{1,100})(/[\w./-]{0,200})?@([\w./-]{1,200})", uses)
    image = re.fullmatch(r"docker://([\w./:@-]{1,300})", uses)
    at = sheet.file.repository
    if image:
        action, owner, pinned = f"docker://{image.group(1)}", "docker", "@sha256:" in image.group(1)
    elif found and not (at and at.slug.partition("/")[0].lower() == found.group(1).lower()):
        action, owner = f"{found.group(1)}/{found.group(2)}{found.group(3) or ''}", found.group(1).lower()
        pinned = re.fullmatch(r"[0-9a-f]{40}", found.group(4)) is not None
    else:
        return
    vendor = sheet.identity(
        sheet.name("github", "github.com", "action", action),
        IdentityKind.VENDOR,
        action,
        line=line,
        attributes={"publisher": owner},
    )
    sheet.edge(
        vendor, Relation.RUNS_AS, pipeline, f"uses: {uses}", line=line,
        conditions=["at a pinned commit only"] if pinned else [],
        cut=f"pin {action} to a commit",
    )  # fmt: skip
    if not pinned and owner not in {"actions", "github"}:
        sheet.finding(
            "unpinned-action",
            Severity.MEDIUM,
            f"{clean(action, 100)} is not pinned to a commit",
            "its publisher, or whoever takes the account over, can change what runs with this pipeline's secrets",
            f"replace the tag by the full commit id; `remit blast {pipeline}` shows what it would reach",
            subject=vendor,
            line=line,
        )


def _federate(
    sheet: Sheet,
    pipeline: Name,
    uses: str,
    given: Mapping[str, Tree],
    may_prove: bool,
    environment: str,
    line: int | None,
) -> None:
    action = uses.partition("@")[0].lower()
    conditions = [f"environment {environment}"] if environment else []
    target: Name | None = None
    if action == "aws-actions/configure-aws-credentials":
        target = aws_role(sheet, text(given.get("role-to-assume")), line=line)
        if "secrets." in text(given.get("aws-access-key-id")):
            _static(sheet, pipeline, "AWS", line)
    elif action == "google-github-actions/auth":
        if email := text(given.get("service_account")):
            target = google_account(sheet, email, "") if "${{" not in email else None
        if given.get("credentials_json"):
            _static(sheet, pipeline, "Google Cloud", line)
    elif action == "azure/login":
        client, tenant = text(given.get("client-id")), text(given.get("tenant-id"))
        if client and "${{" not in client + tenant:
            target = azure_application(sheet, tenant, client, line=line)
        if given.get("creds"):
            _static(sheet, pipeline, "Azure", line)
    if target is not None:
        if not may_prove:
            conditions.append("the job may ask for an identity token (`id-token: write`)")
        sheet.edge(pipeline, Relation.ASSUME, target, f"{action} by OpenID Connect", line=line, conditions=conditions)


def _static(sheet: Sheet, pipeline: Name, cloud: str, line: int | None) -> None:
    sheet.finding(
        "static-cloud-key-in-pipeline",
        Severity.MEDIUM,
        f"{sheet.file.name} reaches {cloud} by a stored key",
        "the key outlives every run, and each step of the job can read it",
        "let the pipeline prove itself: `id-token: write` and a role that trusts this repository and environment only",
        subject=pipeline,
        line=line,
    )


def _findings(sheet: Sheet, root: Mapping[str, Tree], triggers: set[str], pipeline: Name, document: Document) -> None:
    if "pull_request_target" in triggers:
        source = decode(sheet.file.data)
        head = re.search(r"github\.event\.pull_request\.head\.(?:sha|ref)|github\.head_ref|refs/pull/", source)
        sheet.finding(
            "pull-request-target",
            Severity.CRITICAL if head and "actions/checkout" in source else Severity.MEDIUM,
            f"{sheet.file.name} runs on pull requests of strangers with the repository's secrets",
            "it checks their code out besides"
            if head
            else "`pull_request_target` runs in the context of the base repository",
            f"use `pull_request`, or split the privileged part off; `remit blast {pipeline}` shows what is at stake",
            subject=pipeline,
            line=document.line("on", "pull_request_target"),
        )
    permissions = root.get("permissions")
    jobs = [mapping(job) for job in mapping(root.get("jobs")).values()]
    if permissions == "write-all" or any(job.get("permissions") == "write-all" for job in jobs):
        _wide(sheet, pipeline, Severity.MEDIUM, "may write everything in its repository", document.line("permissions"))
    elif permissions is None and not all("permissions" in job for job in jobs):
        _wide(sheet, pipeline, Severity.LOW, "does not say what its token may do", None)


def _wide(sheet: Sheet, pipeline: Name, severity: Severity, what: str, line: int | None) -> None:
    sheet.finding(
        "workflow-permissions",
        severity,
        f"{sheet.file.name} {what}",
        "every step, and every action it uses, has that token",
        "put `permissions: {contents: read}` at the top and widen it for the job that needs more",
        subject=pipeline,
        line=line,
    )


ACTIONS = Reader(
    id="github-actions",
    reads="GitHub Actions workflows (also Gitea's and Forgejo's)",
    patterns=(
        Pattern(suffixes=(".yml", ".yaml"), under=(".github/workflows", ".gitea/workflows", ".forgejo/workflows")),
    ),
    read=read,
)
