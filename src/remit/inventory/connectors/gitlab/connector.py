"""What is asked of GitLab, in which order; what is refused is reported object by object.

The API of variables gives their values: each becomes a keyed fingerprint before the next row is read, or is not asked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from remit.inventory.connectors.files.record import FileRead, Repository
from remit.inventory.connectors.gitlab.facts import FACTS
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.providers.forge import ForgeClient

MANIFEST = ConnectorManifest(
    id="gitlab",
    title="GitLab, gitlab.com or self-managed",
    record_of=("gitlab",),
    source="GROUP, GROUP/PROJECT, or the URL of one of them; the token comes from GITLAB_TOKEN, or --secret-stdin",
    observes=(
        "deploy keys, by the fingerprint that SSH key files have, and deploy tokens",
        "access tokens of projects and groups, with scopes, end and last use; service accounts",
        "names of CI variables (protected, masked), with a keyed fingerprint of their value",
        "runners, pipeline triggers, webhooks",
        "pipelines by `.gitlab-ci.yml`, and the subject of their identity tokens",
    ),
    needs=(
        Permission(
            grant="group access token, scope read_api, role Maintainer", why="keys, tokens, variables, triggers"
        ),
        Permission(grant="role Owner of the group", why="service accounts and the group's access tokens"),
    ),
    blind_to=(
        Blind(what="personal access tokens of members", why="they belong to people; an administrator sees them"),
        Blind(what="files that a pipeline includes", why="the project's own definition is read"),
        Blind(what="runners of the instance", why="they belong to its administrator"),
    ),
    hazards=("the role that lists variables also gets their values: `--set variables=none` does not ask for them",),
    options=(
        Option(name="endpoint", help="URL of a self-managed server"),
        Option(name="ca", help="a file of CA certificates"),
        Option(name="variables", help="`names` (values become fingerprints at once), or `none`: not asked"),
    ),
    resumable=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One row of an answer; `about` is the path of the group or project."""

    kind: str
    about: str
    row: Mapping[str, Any] = field(repr=False)


_OF_BOTH: Final = (
    ("token", "access_tokens", "access tokens"),
    ("deploy-token", "deploy_tokens", "deploy tokens"),
    ("hook", "hooks", "webhooks"),
    ("runner", "runners?type={}_type", "runners"),
    ("variable", "variables", "CI variables"),
)
_OF_PROJECT: Final = (("key", "deploy_keys", "deploy keys"), ("trigger", "triggers", "pipeline triggers"))


class GitlabConnector:
    """Reads one group with its subgroups, or one project."""

    manifest = MANIFEST

    def __init__(self, client: ForgeClient, source: str, *, forge: str = "gitlab.com", variables: bool = True) -> None:
        self._client = client
        self._source = source
        self._forge = forge
        self._variables = variables
        self._group = False

    @property
    def instance(self) -> str:
        """The host of the server."""
        return self._forge

    @property
    def scope(self) -> str:
        return self._source

    def open(self) -> None:
        """Ask for the source; `Misconfigured` for a refused token, `Rejected` when there is no such source."""
        where = quote(self._source, safe="")
        try:
            try:
                self._client.get(f"groups/{where}?with_projects=false")
                self._group = True
            except NotFound:
                self._client.get(f"projects/{where}")
        except (NotFound, Denied):
            self.close()
            raise Rejected(
                "inventory.gitlab.no-such-source",
                f"this token sees no `{self._source}`",
                next_step="look at the name, and at what the token was given access to",
            ) from None
        except BaseException:
            self.close()
            raise

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """The group and its subgroups, then every project by its number; an interrupted run goes on after its last."""
        self._client.waiting = lambda why: scan.progress(0, why)
        where = quote(self._source, safe="")
        if not self._group:
            yield from self._project(self._client.get(f"projects/{where}").data)
            return
        groups = [self._source]
        groups += [
            str(row["full_path"]) for row in self._client.pages(f"groups/{where}/descendant_groups?per_page=100")
        ]
        for group in groups:
            yield Raw(kind="group", about=group, row={})
            yield from self._settings("groups", group)
            path = f"groups/{quote(group, safe='')}/service_accounts"
            yield from self._rows("service-account", group, path, "service accounts")
        after = int(scan.recalled.get("project", "0")) if scan.resumed else 0
        # By id: a project that is deleted while pages are read moves no other out of sight.
        path = f"groups/{where}/projects?include_subgroups=true&archived=false&order_by=id&sort=asc&per_page=100"
        path += f"&pagination=keyset&id_after={after}"
        seen: set[int] = set()
        for count, project in enumerate(self._client.pages(path)):
            number = int(project.get("id") or 0)
            if number in seen or number <= after:
                continue
            seen.add(number)
            if scan.stopped():
                yield Skipped(what=self._source, reason="changed-while-read", detail="stopped before the end")
                return
            scan.progress(count, str(project.get("path_with_namespace")))
            yield from self._project(project)
            scan.remember("project", str(number))
        scan.remember("project", "")

    def _project(self, project: Mapping[str, Any]) -> Iterator[Raw | Skipped]:
        slug = str(project["path_with_namespace"])
        main = str(project.get("default_branch") or "main")
        yield Raw(kind="project", about=slug, row={**project, "branch_protected": self._is_protected(slug, main)})
        yield from self._settings("projects", slug)
        for kind, path, what in _OF_PROJECT:
            yield from self._rows(kind, slug, f"projects/{quote(slug, safe='')}/{path}", what)
        path = str(project.get("ci_config_path") or ".gitlab-ci.yml")
        if "@" in path or "://" in path:
            yield Skipped(what=f"pipeline of {slug}", reason="not-supported", detail="it is defined elsewhere")
            return
        branch = quote(str(project.get("default_branch") or "main"), safe="")
        where = f"projects/{quote(slug, safe='')}/repository/files/{quote(path, safe='')}?ref={branch}"
        try:
            data = base64.b64decode(str(self._client.get(where).data.get("content", "")))
        except (NotFound, AttributeError, ValueError, binascii.Error):
            return
        except Denied:
            yield Skipped(what=f"pipeline of {slug}", reason="not-permitted", detail="the token needs `read_api`")
            return
        yield Raw(kind="pipeline", about=slug, row={"path": path, "data": data})

    def _is_protected(self, slug: str, branch: str) -> bool | None:
        """Whether rules guard the default branch; `None` where that cannot be seen."""
        try:
            path = f"projects/{quote(slug, safe='')}/repository/branches/{quote(branch, safe='')}"
            row = self._client.get(path).data
        except (NotFound, Denied):
            return None
        protected = row.get("protected") if isinstance(row, dict) else None
        return protected if isinstance(protected, bool) else None

    def _settings(self, kind: str, about: str) -> Iterator[Raw | Skipped]:
        for what, path, title in _OF_BOTH:
            if what != "variable" or self._variables:
                filled = path.format(kind.rstrip("s"))
                yield from self._rows(what, about, f"{kind}/{quote(about, safe='')}/{filled}", title)
        if not self._variables:
            yield Skipped(what=f"CI variables of {about}", reason="not-permitted", detail="`variables=none`")

    def _rows(self, kind: str, about: str, path: str, what: str) -> Iterator[Raw | Skipped]:
        try:
            for row in self._client.pages(f"{path}{'&' if '?' in path else '?'}per_page=100"):
                yield Raw(kind=kind, about=about, row=row)
        except (Denied, NotFound):
            detail = "the token needs `read_api` and the role Maintainer there (Owner for tokens of a group)"
            yield Skipped(what=f"{what} of {about}", reason="not-permitted", detail=detail)

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """The facts of one row; one that is not in the form of its kind becomes `Skipped`."""
        inner = f"/{raw.row['path']}" if raw.kind == "pipeline" else "/"
        at = Repository(root="/", git_dir="/.git", forge=self._forge, slug=raw.about)
        file = FileRead(
            path=inner, reader="gitlab", data=raw.row["data"] if raw.kind == "pipeline" else b"", host=self._forge,
            account=raw.about, repository=at,
        )  # fmt: skip
        target = SystemSheet(file, scan, rules="gitlab").name(at.system, at.forge, "repository", raw.about)
        path = f"{raw.about}{inner}".rstrip("/")
        sheet = SystemSheet(file, scan, rules="gitlab", system=f"gitlab:{self._forge}", path=path, keeper=target)
        try:
            FACTS[raw.kind](sheet, raw.about, raw.row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            sheet.skip("malformed", f"{raw.kind}: {type(error).__name__}")
        return sheet.facts()

    def close(self) -> None:
        self._client.close()
