"""What is asked of GitHub, in which order; what is refused is reported object by object."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from remit.inventory.connectors.github.facts import FACTS, sheet_of
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.inventory.owners import CODEOWNERS_PATHS
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.providers.forge import ForgeClient

MAX_WORKFLOW_BYTES: Final = 1024 * 1024
MAX_PASSES: Final = 4
_MACHINE: Final = re.compile(
    r"(?:^|[-_])(?:bot|ci|cd|svc|service|robot|machine|automation|deploy(?:er)?)(?:[-_]|$)", re.I
)

MANIFEST = ConnectorManifest(
    id="github",
    title="GitHub and GitHub Enterprise Server",
    record_of=("github",),
    source="ORG, ORG/REPO, or the URL of one of them; the token comes from GITHUB_TOKEN or GH_TOKEN, or --secret-stdin",
    observes=(
        "deploy keys with their last use, by the fingerprint that SSH key files have",
        "GitHub Apps installed: their permissions and events",
        "fine-grained tokens of the organisation's members: permissions, expiry, last use",
        "names of Actions and Dependabot secrets and variables: of the organisation, repositories, environments",
        "environments with their protection rules",
        "workflows, their identity-token subjects and the roles that they assume",
        "whether the default branch is protected",
        "self-hosted runners, webhooks, outside collaborators, machine users",
        "owners by CODEOWNERS",
    ),
    needs=(
        Permission(grant="fine-grained token, repository: Metadata: read", why="repositories; always included"),
        Permission(grant="repository: Contents: read", why="workflows, CODEOWNERS, whether a branch is protected"),
        Permission(grant="repository: Administration: read", why="deploy keys and self-hosted runners"),
        Permission(grant="repository: Webhooks: read", why="webhooks of repositories"),
        Permission(grant="repository: Secrets: read", why="names of Actions secrets; their values cannot be read"),
        Permission(grant="repository: Variables: read", why="names of variables"),
        Permission(grant="repository: Environments: read", why="environments, names of their secrets and variables"),
        Permission(grant="repository: Dependabot secrets: read", why="their names"),
        Permission(grant="repository: Actions: read", why="identity-token subjects, environments"),
        Permission(grant="organization: Administration: read", why="installed apps, identity-token subjects"),
        Permission(grant="organization: Members: read", why="machine users and outside collaborators"),
        Permission(grant="organization: Webhooks: read", why="webhooks of the organisation"),
        Permission(grant="organization: Secrets: read", why="names of the organisation's Actions secrets"),
        Permission(grant="organization: Variables: read", why="names of the organisation's variables"),
        Permission(grant="organization: Organization dependabot secrets: read", why="their names"),
        Permission(grant="organization: Self-hosted runners: read", why="runners of the organisation"),
        Permission(
            grant="organization: Personal access tokens: read",
            why="members' fine-grained tokens; GitHub lets only a GitHub App ask for them",
        ),
    ),
    blind_to=(
        Blind(what="values of secrets", why="GitHub gives them to workflows alone"),
        Blind(what="classic personal access tokens", why="the API lists them only for organisations with SAML"),
        Blind(what="which repositories an app with a selection may reach", why="only the app itself is told"),
        Blind(what="workflows on other branches", why="the default branch is read; the files connector reads clones"),
        Blind(what="keys of members", why="they belong to people, not to the organisation"),
    ),
    hazards=("a token that reads all of this is worth stealing: make it expire, and for this alone",),
    options=(
        Option(name="endpoint", help="URL of the API of a GitHub Enterprise Server: https://HOST/api/v3"),
        Option(name="ca", help="a file of CA certificates"),
        Option(name="forge", help="the host by which clones name the forge, where it is not that of the API"),
        Option(name="machine-users", help="logins of members that are machines, separated by commas"),
    ),
    resumable=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One row of an answer: its kind is a key of `facts.FACTS`; `about` is `org` or `org/repo`."""

    kind: str
    about: str
    row: Mapping[str, Any] = field(repr=False)
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)


_OF_ORGANISATION: Final = (
    ("installation", "orgs/{}/installations", "installations", "installed apps", "organization: Administration: read"),
    ("pat", "orgs/{}/personal-access-tokens", "", "fine-grained tokens", "organization: Personal access tokens: read"),
    ("hook", "orgs/{}/hooks", "", "webhooks", "organization: Webhooks: read"),
    ("secret", "orgs/{}/actions/secrets", "secrets", "Actions secrets", "organization: Secrets: read"),
    ("variable", "orgs/{}/actions/variables", "variables", "variables", "organization: Variables: read"),
    (
        "dependabot", "orgs/{}/dependabot/secrets", "secrets", "Dependabot secrets",
        "organization: Organization dependabot secrets: read",
    ),
    ("runner", "orgs/{}/actions/runners", "runners", "runners", "organization: Self-hosted runners: read"),
    ("outsider", "orgs/{}/outside_collaborators", "", "outside collaborators", "organization: Members: read"),
)  # fmt: skip
_OF_REPOSITORY: Final = (
    ("key", "repos/{}/keys", "", "deploy keys", "repository: Administration: read"),
    ("hook", "repos/{}/hooks", "", "webhooks", "repository: Webhooks: read"),
    ("secret", "repos/{}/actions/secrets", "secrets", "Actions secrets", "repository: Secrets: read"),
    ("variable", "repos/{}/actions/variables", "variables", "variables", "repository: Variables: read"),
    (
        "dependabot", "repos/{}/dependabot/secrets", "secrets", "Dependabot secrets",
        "repository: Dependabot secrets: read",
    ),
    ("runner", "repos/{}/actions/runners", "runners", "runners", "repository: Administration: read"),
)  # fmt: skip


class GithubConnector:
    """Reads one organisation (or user) or one repository."""

    manifest = MANIFEST

    def __init__(
        self, client: ForgeClient, source: str, *, forge: str = "github.com", machine_users: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._source = source
        self._forge = forge
        self._machines = frozenset(machine_users)
        self._is_organisation = False
        self._org_secrets: frozenset[str] = frozenset()

    @property
    def instance(self) -> str:
        """The forge: `github.com`, or the host of a server."""
        return self._forge

    @property
    def scope(self) -> str:
        return self._source

    def open(self) -> None:
        """Ask for the source; `Misconfigured` for a refused token, `Rejected` when there is no such source."""
        try:
            self._ask_for_source()
        except (NotFound, Denied):
            self.close()
            raise Rejected(
                "inventory.github.no-such-source",
                f"this token sees no `{self._source}`",
                next_step="look at the name, and at what the token was given access to",
            ) from None
        except BaseException:
            self.close()
            raise

    def _ask_for_source(self) -> None:
        if "/" in self._source:
            self._client.get(f"repos/{self._source}")
            return
        try:
            self._client.get(f"orgs/{self._source}")
            self._is_organisation = True
        except NotFound:
            self._client.get(f"users/{self._source}")

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """The organisation, then its repositories by number; where a run was interrupted it goes on after its last."""
        self._client.waiting = lambda why: scan.progress(0, why)
        org = self._source.partition("/")[0]
        if self._is_organisation:
            yield from self._organisation(org)
        after = int(scan.recalled.get("repository", "0")) if scan.resumed else 0
        repositories: list[dict[str, Any]] = []
        for found in self._repositories():
            if isinstance(found, Skipped):
                yield found
            elif isinstance(found.get("id"), int) and isinstance(found.get("full_name"), str):
                repositories.append(found)
        for count, repository in enumerate(sorted(repositories, key=lambda each: int(each["id"]))):
            if repository["id"] <= after:
                continue
            if scan.stopped():
                yield Skipped(what=self._source, reason="changed-while-read", detail="stopped before the end")
                return
            scan.progress(count, str(repository["full_name"]))
            yield from self._repository(repository)
            scan.remember("repository", str(repository["id"]))
        scan.remember("repository", "")

    def _organisation(self, org: str) -> Iterator[Raw | Skipped]:
        yield Raw(kind="organisation", about=org, row={"login": org})
        names: list[str] = []
        for kind, path, inside, what, grant in _OF_ORGANISATION:
            for found in self._rows(kind, org, path.format(org), inside, what, grant):
                if isinstance(found, Raw) and kind == "secret":
                    names.append(str(found.row.get("name", "")).upper())
                yield found
        self._org_secrets = frozenset(names)
        for found in self._rows("member", org, f"orgs/{org}/members", "", "members", "organization: Members: read"):
            if isinstance(found, Skipped) or self._is_machine(found.row):
                yield found
        path = f"orgs/{org}/actions/oidc/customization/sub"
        yield from self._one("subject", org, path, "identity-token subjects", "organization: Administration: read")

    def _is_machine(self, member: Mapping[str, Any]) -> bool:
        login = str(member.get("login", ""))
        return member.get("type") == "Bot" or login.lower() in self._machines or bool(_MACHINE.search(login))

    def _repositories(self) -> Iterator[dict[str, Any] | Skipped]:
        """All of them, though some come and go while pages are read: the list is read until it stands still.

        What did not change is answered by 304, which costs nothing of the limit.
        """
        if "/" in self._source:
            yield self._client.get(f"repos/{self._source}").data
            return
        kind = "orgs" if self._is_organisation else "users"
        path = f"{kind}/{self._source}/repos?per_page=100&type=all&sort=created&direction=asc"
        known: dict[int, dict[str, Any]] = {}
        etags: dict[str, str] = {}
        for attempt in range(MAX_PASSES):
            before = dict(etags)
            for row in self._client.pages(path, etags=etags):
                known[int(row.get("id") or 0)] = row
            if attempt and before == etags:
                break
        else:
            detail = "repositories were made or deleted each time that the list was read"
            yield Skipped(what=f"list of repositories of {self._source}", reason="changed-while-read", detail=detail)
        yield from known.values()

    def _repository(self, repository: Mapping[str, Any]) -> Iterator[Raw | Skipped]:
        slug = str(repository["full_name"])
        rules = b""
        for path in CODEOWNERS_PATHS:
            if (rules := self._file(slug, path) or b"") != b"":
                break
        context: dict[str, Any] = {
            "branch": str(repository.get("default_branch") or "main"), "owners": rules,
            "private": repository.get("private") is True, "org_secrets": self._org_secrets,
        }  # fmt: skip
        path, grant = f"repos/{slug}/actions/oidc/customization/sub", "repository: Actions: read"
        made = list(self._one("subject", slug, path, "identity-token subjects", grant))
        for found in made:
            if isinstance(found, Raw) and found.row.get("use_default") is not True:
                context["subject_keys"] = tuple(str(each) for each in found.row.get("include_claim_keys") or ())
        context["protected"] = self._is_protected(slug, str(context["branch"]))
        yield Raw(kind="repository", about=slug, row=repository, context=context)
        yield from made
        for kind, path, inside, what, grant in _OF_REPOSITORY:
            yield from self._rows(kind, slug, path.format(slug), inside, what, grant, context)
        yield from self._environments(slug, context)
        yield from self._workflows(slug, context)

    def _is_protected(self, slug: str, branch: str) -> bool | None:
        """Whether rules guard the default branch; `None` where that cannot be seen."""
        try:
            row = self._client.get(f"repos/{slug}/branches/{quote(branch, safe='')}").data
        except (NotFound, Denied):
            return None
        protected = row.get("protected") if isinstance(row, dict) else None
        return protected if isinstance(protected, bool) else None

    def _environments(self, slug: str, context: Mapping[str, Any]) -> Iterator[Raw | Skipped]:
        grant = "repository: Environments: read"
        for found in self._rows(
            "environment", slug, f"repos/{slug}/environments", "environments", "environments", grant, context
        ):
            yield found
            if isinstance(found, Raw):
                called = str(found.row.get("name", ""))
                base = f"repos/{slug}/environments/{quote(called, safe='')}"
                for kind in ("secret", "variable"):
                    what = f"{kind}s of environment {called[:60]}"
                    inner = {**context, "environment": called}
                    yield from self._rows(kind, slug, f"{base}/{kind}s", f"{kind}s", what, grant, inner)

    def _workflows(self, slug: str, context: Mapping[str, Any]) -> Iterator[Raw | Skipped]:
        try:
            listed = self._client.get(f"repos/{slug}/contents/.github/workflows").data
        except NotFound:
            return  # no directory, in a repository whose contents may be read; else the next line says so
        except Denied:
            yield _denied("workflows", slug, "repository: Contents: read")
            return
        for entry in listed if isinstance(listed, list) else ():
            path = str(entry.get("path", ""))
            if entry.get("type") != "file" or not path.endswith((".yml", ".yaml")):
                continue
            if int(entry.get("size") or 0) > MAX_WORKFLOW_BYTES:
                yield Skipped(what=f"{slug}/{path}", reason="too-large")
                continue
            data = self._file(slug, path)
            if data is None:
                yield Skipped(what=f"{slug}/{path}", reason="changed-while-read", detail="listed, then gone")
                continue
            yield Raw(kind="workflow", about=slug, row={"path": path, "data": data}, context=context)

    def _file(self, slug: str, path: str) -> bytes | None:
        try:
            row = self._client.get(f"repos/{slug}/contents/{quote(path)}").data
        except (NotFound, Denied):
            return None
        if not isinstance(row, dict) or row.get("encoding") != "base64":
            return None
        try:
            return base64.b64decode(str(row.get("content", "")))
        except (ValueError, binascii.Error):
            return None

    def _rows(
        self, kind: str, about: str, path: str, inside: str, what: str, grant: str,
        context: Mapping[str, Any] | None = None,
    ) -> Iterator[Raw | Skipped]:  # fmt: skip
        seen: set[str] = set()
        try:
            for row in self._client.pages(f"{path}?per_page=100", inside=inside):
                # A row that moved to the next page while this one was read comes twice.
                key = str(row.get("id") or row.get("name") or row.get("login") or row)
                if key not in seen:
                    seen.add(key)
                    yield Raw(kind=kind, about=about, row=row, context=context or {})
        except (Denied, NotFound):
            yield _denied(what, about, grant)

    def _one(self, kind: str, about: str, path: str, what: str, grant: str) -> Iterator[Raw | Skipped]:
        try:
            row = self._client.get(path).data
        except NotFound:
            return
        except Denied:
            yield _denied(what, about, grant)
            return
        if isinstance(row, dict):
            yield Raw(kind=kind, about=about, row=row)

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """The facts of one row; one that is not in the form of its kind becomes `Skipped`."""
        sheet = sheet_of(raw.about, self._forge, scan, raw.row, raw.context)
        try:
            FACTS[raw.kind](sheet, raw.about, raw.row, raw.context)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            sheet.skip("malformed", f"{raw.kind}: {type(error).__name__}")
        return sheet.facts()

    def close(self) -> None:
        self._client.close()


def _denied(what: str, about: str, grant: str) -> Skipped:
    # GitHub answers 404 where the token lacks a permission, and 403 where the plan or a policy does.
    return Skipped(what=f"{what} of {about}", reason="not-permitted", detail=f"the token needs `{grant}`")
