"""GitLab CI: the project's pipeline as an identity, its identity tokens, variables and images.

Spec: GitLab Docs, "CI/CD YAML syntax reference", "OpenID Connect in GitLab CI".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import record_settings, settings_of
from remit.inventory.connectors.files.formats import Document, Path, Tree, decode, mapping, sequence, text
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.readers.cloud import aws_role
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.values import is_secret_name
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import Autonomy, CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name

_KEYWORDS = frozenset(
    {"stages", "variables", "include", "default", "workflow", "image", "services", "cache", "spec", "pages"}
)
_VARIABLE = re.compile(r"\$\{?([A-Z][A-Z0-9_]{2,99})\b")
_ROLE = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+")


def read(sheet: Sheet) -> None:
    """Record the pipeline, the secrets it names, the roles it assumes and the images it trusts."""
    documents = parse_yaml(sheet.file.data)
    if not documents:
        return
    document = documents[-1]
    root = mapping(document.value)
    pipeline = _pipeline(sheet)
    record_settings(sheet, settings_of(document, "variables"), holders=[pipeline])
    _image(sheet, pipeline, root.get("image"), document.line("image"))
    proves = False
    for job_name, job in root.items():
        if job_name in _KEYWORDS - {"default", "pages"} or not isinstance(job, dict):
            continue
        record_settings(sheet, settings_of(document, job_name, "variables"), holders=[pipeline])
        _image(sheet, pipeline, job.get("image"), document.line(job_name, "image"))
        proves |= _identity_tokens(sheet, pipeline, document, (job_name,), job)
        _managed(sheet, pipeline, document, job_name, job)
    _references(sheet, pipeline, root)
    for number, line in enumerate(decode(sheet.file.data).splitlines(), 1):
        for arn in _ROLE.findall(line):
            if target := aws_role(sheet, arn, line=number):
                sheet.edge(
                    pipeline,
                    Relation.ASSUME,
                    target,
                    "named in the pipeline",
                    line=number,
                    conditions=[] if proves else ["by a stored key"],
                )


def _pipeline(sheet: Sheet) -> Name:
    at = sheet.file.repository
    if at and at.slug:
        of = sheet.name(at.system, at.forge, "pipeline", f"{at.slug}/{sheet.file.within_repository}")
        title = f"{at.slug} {sheet.file.name}"
    else:
        of = sheet.name("host", sheet.file.host, "pipeline", sheet.file.path)
        title = f"pipeline {sheet.file.name}"
    pipeline = sheet.identity(
        of,
        IdentityKind.PIPELINE,
        title,
        attributes={"autonomy": Autonomy.PIPELINE.value, "repository": at.slug if at else ""},
    )
    if (repository := sheet.repository()) is not None:
        sheet.edge(pipeline, Relation.CAN_REACH, repository, "the job token", actions=["default"])
    return pipeline


def _identity_tokens(sheet: Sheet, pipeline: Name, document: Document, path: Path, job: Mapping[str, Tree]) -> bool:
    tokens = mapping(job.get("id_tokens"))
    for token, entry in tokens.items():
        audience = mapping(entry).get("aud")
        for each in sequence(audience) or [audience]:
            of = sheet.name("oidc", clean(text(each), 200) or "unknown", "audience", "pipeline")
            sheet.resource(
                of, "audience", f"what trusts tokens for {text(each)}", line=document.line(*path, "id_tokens", token)
            )
            sheet.edge(
                pipeline,
                Relation.CAN_REACH,
                of,
                f"id_tokens: {token}",
                line=document.line(*path, "id_tokens", token),
                actions=["authenticate"],
            )
    return bool(tokens)


def _managed(sheet: Sheet, pipeline: Name, document: Document, job_name: str, job: Mapping[str, Tree]) -> None:
    for secret, entry in mapping(job.get("secrets")).items():
        manager = next((key for key in mapping(entry) if key not in {"file", "token"}), "vault")
        sheet.credential(
            sha256(f"gitlab-ci:{_scope(sheet)}:{secret}".encode()),
            CredentialKind.SECRET,
            f"{secret} of {_scope(sheet)}",
            line=document.line(job_name, "secrets", secret),
            manager=manager,
            holders=[pipeline],
            attributes={"setting": secret, "reference": True},
        )


def _scope(sheet: Sheet) -> str:
    at = sheet.file.repository
    return f"{at.forge}/{at.slug}" if at and at.slug else f"{sheet.file.host}{sheet.file.path}"


def _references(sheet: Sheet, pipeline: Name, root: Mapping[str, Tree]) -> None:
    """A `$NAME` that the file does not define and whose name says secret is a variable of the project."""
    own = set(mapping(root.get("variables"))) | {
        key for job in root.values() for key in mapping(mapping(job).get("variables"))
    }
    for number, line in enumerate(decode(sheet.file.data).splitlines(), 1):
        for variable in _VARIABLE.findall(line):
            if variable not in own and not variable.startswith(("CI_", "GITLAB_")) and is_secret_name(variable):
                sheet.credential(
                    sha256(f"gitlab-ci:{_scope(sheet)}:{variable}".encode()),
                    CredentialKind.SECRET,
                    f"{variable} of {_scope(sheet)}",
                    line=number,
                    manager="gitlab-ci",
                    holders=[pipeline],
                    attributes={"setting": variable, "reference": True},
                )


def _image(sheet: Sheet, pipeline: Name, image: Tree, line: int | None) -> None:
    named = text(image) or text(mapping(image).get("name"))
    if not named or "$" in named or not re.fullmatch(r"[\w./:@-]{1,300}", named):
        return
    bare = named.partition("@")[0]
    of = sheet.identity(
        sheet.name("oci", bare.partition("/")[0] if "." in bare.partition("/")[0] else "docker.io", "image", bare),
        IdentityKind.VENDOR,
        bare,
        line=line,
    )
    pinned = "@sha256:" in named
    sheet.edge(
        of,
        Relation.RUNS_AS,
        pipeline,
        f"image: {named}",
        line=line,
        conditions=["at a pinned digest only"] if pinned else [],
    )
    if not pinned and (":" not in bare.rpartition("/")[2] or bare.endswith(":latest")):
        sheet.finding(
            "unpinned-image",
            Severity.LOW,
            f"{clean(bare, 100)} is not pinned",
            "whoever can push the tag runs with this pipeline's secrets",
            "name a version, or better a digest (`image@sha256:…`)",
            subject=of,
            line=line,
        )


GITLAB = Reader(
    id="gitlab-ci",
    reads="GitLab CI pipelines",
    patterns=(
        Pattern(names=(".gitlab-ci.yml", ".gitlab-ci.yaml")),
        Pattern(suffixes=(".yml", ".yaml"), under=(".gitlab/ci",)),
    ),
    read=read,
)
