"""What is planted on the prepared machine, and what has to be found of it: one row for each, asked of the installation.

`inventory(machine)` reads what the commands and the API show; each row of `PLANTED` then says what it found, in words,
or nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prepared_machine import ACCOUNT, BIND, Machine
from remit.kernel.ids import parse_name


@dataclass(frozen=True, slots=True)
class Seen:
    """The inventory of the machine: a page for each identity, and every finding."""

    machine: Machine
    pages: Mapping[str, dict[str, Any]]
    findings: Sequence[Mapping[str, Any]]

    def named(self, system: str, local: str, kind: str = "") -> list[dict[str, Any]]:
        """Pages of the identities that have such a name."""

        def fits(name: str) -> bool:
            parts = parse_name(name)
            return bool(parts and parts[0] == system and parts[3] == local and kind in ("", parts[2]))

        return [page for page in self.pages.values() if any(map(fits, page["names"]))]

    def joined(self, system: str, local: str, *connectors: str, kind: str = "") -> str:
        """By which connectors the one identity of that name was seen, if by all of these."""
        pages = self.named(system, local, kind)
        if len(pages) != 1:
            return ""
        by = {each["connector"] for each in pages[0]["sightings"]}
        return f"one identity, by {', '.join(sorted(by))}" if by >= set(connectors) else ""

    def places(self, system: str, local: str, *ends: str) -> str:
        """How many of the places of one secret of the identity are known, if all of these are."""
        (page,) = self.named(system, local)
        of: dict[str, set[str]] = {}
        for each in page["sightings"]:
            if each["kind"] == "credential":
                of.setdefault(each["node"], set()).add(each["place"])
        for places in of.values():
            if all(any(end in place for place in places) for end in ends):
                return f"one credential in {len(places)} places"
        return ""

    def edge(self, page: Mapping[str, Any], relation: str, head: str) -> str:
        """The evidence of an edge that leaves the identity."""
        for each in page["reaches"]:
            if each["relation"] == relation and head in each["head"]:
                return f"{relation}: {each['evidence']}"
        return ""

    def finding(self, rule: str, text: str = "") -> str:
        """The title of the finding."""
        for each in self.findings:
            if each["rule"] == rule and text in f"{each['title']} {each['detail']} {each['place']}":
                return f"{rule}: {each['title']}"
        return ""


def inventory(machine: Machine) -> Seen:
    """Read everything that the installation shows."""
    admin = machine.house.admin
    ids = [row["id"] for row in machine.house.json("ls") if row["record"] == "identity"]
    pages = {each: admin.get(f"/api/v1/identities/{each}") for each in ids}
    findings = admin.get("/api/v1/findings?limit=5000")["rows"]
    return Seen(machine, pages, findings)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was planted."""

    planted: str
    where: str
    found: Callable[[Seen], str]


def _history(seen: Seen) -> str:
    (page,) = seen.named("postgres", "shop_app")
    places = [each["place"] for each in page["sightings"] if "config/old.env@" in each["place"]]
    return f"config/old.env@{places[0].rpartition('@')[2]}, with the secret of the server's login" if places else ""


def _key(seen: Seen) -> str:
    place = f"{seen.machine.shop}/.ssh/id_ed25519"
    for page in seen.pages.values():
        prints = {each["node"] for each in page["sightings"] if each["kind"] == "credential" and place in each["place"]}
        doors = {
            each["place"] for each in page["sightings"] if each["node"] in prints and "authorized_keys" in each["place"]
        }
        used = [each for each in page["credentials"] if each["kind"] == "ssh-key" and each["last_used"]]
        if prints and doors and used:
            return f"one key: in the home, in {len(doors)} authorized_keys, last used {used[0]['last_used'][:10]}"
    return ""


def _reused(seen: Seen) -> str:
    (one,), (other,) = seen.named("postgres", "billing"), seen.named("redis", "billing")
    told = [each for each in seen.findings if each["rule"] == "inventory.secret-reused"]
    apart = one["identity"]["id"] != other["identity"]["id"]
    return "two identities, and the finding inventory.secret-reused" if apart and told else ""


def _irsa(seen: Seen) -> str:
    (page,) = seen.named("kubernetes", "shop/orders-api", "serviceaccount")
    return seen.edge(page, "assume", f"aws:{ACCOUNT}:role:apps/orders-api")


def _role(seen: Seen) -> str:
    (page,) = seen.named("aws", "apps/orders-api", "role")
    tails = [each["tail"] for each in page["reached_by"] if each["relation"] == "assume"]
    assumed = any(tail.endswith("serviceaccount:shop/orders-api") for tail in tails)
    return (
        f"{seen.joined('aws', 'apps/orders-api', 'aws', kind='role')}; assumed by the service account"
        if assumed
        else ""
    )


def _oidc(seen: Seen) -> str:
    (role,) = seen.named("aws", "deploy", "role")
    edges = [each for each in role["reached_by"] if each["relation"] == "assume" and ":github:" in each["tail"]]
    by_policy = [
        each for each in edges if "repo:acme/shop:" in f"{each['evidence']} {each['conditions']} {each['tail']}"
    ]
    by_workflow = [each for each in edges if each["tail"].endswith("release.yml")]
    return f"{by_workflow[0]['evidence']}; trusted as {by_policy[0]['tail'][-60:]}" if by_policy and by_workflow else ""


def _reach(seen: Seen) -> str:
    (group,) = seen.named("postgres", "shop_rw")
    (page,) = seen.named("postgres", "shop_app")
    member, reaches = seen.edge(page, "member-of", "shop_rw"), seen.edge(group, "can-reach", "orders")
    return f"{member}; {reaches}" if member and reaches else ""


def _holder(seen: Seen) -> str:
    (page,) = seen.named("postgres", "shop_app")
    tails = {each["tail"] for each in page["reached_by"] if each["relation"] == "holds"}
    wanted = (
        "kubernetes:prod:deployment:shop/orders-api",
        "srv/server@root",
        "compose:github.com",
        "repository:acme/shop",
    )
    return (
        "held by Deployment, process, compose service, repository"
        if all(any(w in t for t in tails) for w in wanted)
        else ""
    )


def _owner(seen: Seen) -> str:
    (page,) = seen.named("rabbitmq", "orders-events")
    said = {(each["owner"].removeprefix("person:"), each["method"]) for each in page["proposals"]}
    return "ann@example.org, by CODEOWNERS and by the history of the line" if said >= {
        ("ann@example.org", "codeowners"), ("ann@example.org", "git")} else ""  # fmt: skip


def _used(seen: Seen) -> str:
    pages = [
        seen.named("postgres", "shop_app"),
        seen.named("redis", "orders-api"),
        seen.named("rabbitmq", "orders-events"),
    ]
    counts = [page[0]["use"]["count"] for page in pages if page[0]["use"]["measured"]]
    return f"measured: {', '.join(map(str, counts))} uses" if len(counts) == 3 and all(counts) else ""


PLANTED: tuple[Row, ...] = (
    Row(
        "a PostgreSQL login", ".env, git history, Kubernetes Secret, compose file, environment of a process, the server",
        lambda seen: seen.joined("postgres", "shop_app", "files", "kubernetes", "docker", "host", "postgres"),
    ),
    Row(
        "its password, one secret", "each of these places",
        lambda seen: seen.places(
            "postgres", "shop_app", "/.env", "config/old.env@", "docker-compose.yml", "orders.yaml", "/proc"
        ),
    ),
    Row("its password in a file that was deleted", "git history alone", _history),
    Row("what it reaches", "PostgreSQL: a role's grants on a table", _reach),
    Row("who holds its password", "Kubernetes, compose, a process, a repository", _holder),
    Row(
        "a Redis user", ".env (127.0.0.1), the server",
        lambda seen: seen.joined("redis", "orders-api", "files", "redis"),
    ),
    Row(
        "a RabbitMQ user", "compose file (localhost), the server",
        lambda seen: seen.joined("rabbitmq", "orders-events", "files", "docker", "rabbitmq"),
    ),
    Row(
        "an LDAP bind account", "settings of the application (URL, DN and password), the directory",
        lambda seen: seen.joined("ldap", BIND, "files", "ldap", kind="user"),
    ),
    Row(
        "a MariaDB user of any host", ".my.cnf, the server",
        lambda seen: seen.joined("mysql", "reports", "files", "mariadb"),
    ),
    Row("an SSH key", "a home, authorized_keys of sshd, sshd's log", _key),
    Row("a service account with a role by annotation (IRSA)", "Kubernetes manifest, AWS account file", _irsa),
    Row(
        "that AWS role", "AWS account file; whoever assumes it, by the manifest",
        _role,
    ),
    Row("a workflow's OIDC subject", "workflow file, the forge's API, trust policy of an AWS role", _oidc),
    Row(
        "the workflow", "the repository's clone and the forge",
        lambda seen: seen.joined("github", "acme/shop/.github/workflows/release.yml", "files", "github"),
    ),
    Row(
        "a role that Terraform made", "Terraform state, AWS account file",
        lambda seen: seen.joined("aws", "reports", "terraform", "aws", kind="role"),
    ),
    Row(
        "a compose service", "found by the scan of files and by that of Docker",
        lambda seen: seen.joined("compose", "acme/shop/docker-compose.yml#web", "files", "docker"),
    ),
    Row("one password in two systems", "PostgreSQL and Redis, both in .env", _reused),
    Row("an owner", "CODEOWNERS and the author of the line", _owner),
    Row(
        "a secret in clear", ".env", lambda seen: seen.finding("files.secret-in-config", ".env"),
    ),
    Row("a key without a passphrase", "a home", lambda seen: seen.finding("files.unencrypted-key")),
    Row("a role that any workflow may assume", "AWS account file", lambda seen: seen.finding("aws.trust-any-subject")),
    Row("an administrator of AWS", "AWS account file", lambda seen: seen.finding("aws.administrator")),
    Row("a secret in a manifest", "Kubernetes manifest", lambda seen: seen.finding("kubernetes.secret-in-manifest")),
    Row("a login from any host", "MariaDB", lambda seen: seen.finding("mariadb.any-host", "reports")),
    Row("use of three logins", "log of PostgreSQL, CLIENT LIST of Redis, connections of RabbitMQ", _used),
    Row("two programs under one login", "log of PostgreSQL", lambda seen: seen.finding("use.shared", "shop_app")),
    Row(
        "one login in production and in staging", "log of PostgreSQL",
        lambda seen: seen.finding("use.across-environments", "shop_app"),
    ),
    Row("a login that nobody uses", "PostgreSQL and its log", lambda seen: seen.finding("use.never", "idle_job")),
)  # fmt: skip


def table(seen: Seen) -> list[tuple[str, str, str]]:
    """Planted, where, and what was found: empty where nothing was."""
    return [(row.planted, row.where, row.found(seen)) for row in PLANTED]
