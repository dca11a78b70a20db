"""What already runs under a role, as far as the source lists it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from remit.inventory.connectors.aws.account import Account, Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A function, machine, stack …, and the role whose credentials are in it."""

    arn: str
    title: str
    role: Principal
    open: tuple[str, ...] = ()
    """Why the role may not be had there at the moment."""


Read = Callable[[Account, Mapping[str, Any]], Iterator[tuple[str, str, str, tuple[str, ...]]]]


def things(account: Account) -> dict[str, list[Thing]]:
    """The things by kind; a kind that was not listed is missing, one of which there is nothing is empty."""
    found: dict[str, list[Thing]] = {}
    for key, (kind, read) in _LISTED.items():
        if key not in account.extras.beyond:
            continue
        known = found.setdefault(kind, [])
        for entry in account.extras.beyond[key]:
            for arn, title, role, open in read(account, entry):
                principal = _role(account, role)
                if arn and principal is not None:
                    known.append(Thing(arn=arn, title=f"{kind} {title}", role=principal, open=open))
    return found


def _role(account: Account, given: str) -> Principal | None:
    """By its ARN or, as some services have it, by its name."""
    return account.by_arn(given) if given.startswith("arn:") else account.roles.get(given.rpartition("/")[2])


def _plain(arn: str, title: str, role: str, made: str = "") -> Read:
    """The fields of one listing; `made` is the ARN of what only has a name."""

    def read(account: Account, entry: Mapping[str, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
        name = str(entry.get(title) or "")
        place = f"arn:{account.partition}:{made}".format(region="*", account=account.id, name=name) if made else ""
        yield str(entry.get(arn) or place), name, str(entry.get(role) or ""), ()

    return read


def _instances(account: Account, entry: Mapping[str, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    profiles = {profile: role.arn for role in account.roles.values() for profile in role.profiles}
    for one in entry.get("Instances") or ():
        if not isinstance(one, dict):
            continue
        state = str((one.get("State") or {}).get("Name") or "")
        local = str(one.get("InstanceId") or "")
        profile = str((one.get("IamInstanceProfile") or {}).get("Arn") or "").rpartition("/")[2]
        if not local or state in ("terminated", "shutting-down") or profile not in profiles:
            continue
        zone = str((one.get("Placement") or {}).get("AvailabilityZone") or "")
        region = zone.rstrip("abcdefgh") or "*"
        stopped = (f"instance {local} is started",) if state in ("stopped", "stopping") else ()
        yield f"arn:{account.partition}:ec2:{region}:{account.id}:instance/{local}", local, profiles[profile], stopped


def _apps(account: Account, entry: Mapping[str, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Services of App Runner, as DescribeService has them."""
    inner = entry.get("Service")
    one = inner if isinstance(inner, dict) else entry
    settings = one.get("InstanceConfiguration")
    role = settings.get("InstanceRoleArn") if isinstance(settings, dict) else None
    if one.get("Status") not in ("DELETED", "CREATE_FAILED"):
        yield str(one.get("ServiceArn") or ""), str(one.get("ServiceName") or ""), str(role or ""), ()


def _templates(account: Account, entry: Mapping[str, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Versions of launch templates: machines get the profile of the one that is the default."""
    data, local = entry.get("LaunchTemplateData"), str(entry.get("LaunchTemplateId") or "")
    profile = data.get("IamInstanceProfile") if isinstance(data, dict) else None
    if not isinstance(profile, dict) or not local or entry.get("DefaultVersion") is False:
        return
    named = str(profile.get("Name") or profile.get("Arn") or "").rpartition("/")[2]
    role = next((role.arn for role in account.roles.values() if named in role.profiles), "")
    arn = f"arn:{account.partition}:ec2:*:{account.id}:launch-template/{local}"
    yield arn, str(entry.get("LaunchTemplateName") or local), role, ()


def _tasks(account: Account, entry: Mapping[str, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Tasks of ECS that let commands in, each with the role of its definition or the one put in its place."""
    arn, definition = str(entry.get("taskArn") or ""), str(entry.get("taskDefinitionArn") or "")
    overrides = entry.get("overrides")
    role = overrides.get("taskRoleArn") if isinstance(overrides, dict) else None
    if not role:
        known = account.extras.beyond.get("taskDefinitions", ())
        role = next((one.get("taskRoleArn") for one in known if one.get("taskDefinitionArn") == definition), None)
    if entry.get("enableExecuteCommand") is not False and entry.get("lastStatus") != "STOPPED":
        open = () if entry.get("enableExecuteCommand") is True else ("the task lets commands in",)
        yield arn, arn.rpartition("/")[2], str(role or ""), open


_LISTED: Final[Mapping[str, tuple[str, Read]]] = {
    "Functions": ("function", _plain("FunctionArn", "FunctionName", "Role")),
    "Reservations": ("instance", _instances),
    "Stacks": ("stack", _plain("StackId", "StackName", "RoleARN")),
    "Jobs": ("job", _plain("Arn", "Name", "Role", "glue:{region}:{account}:job/{name}")),
    "DevEndpoints": (
        "development endpoint",
        _plain("Arn", "EndpointName", "RoleArn", "glue:{region}:{account}:devEndpoint/{name}"),
    ),
    "projects": ("project", _plain("arn", "name", "serviceRole")),
    "stateMachines": ("state machine", _plain("stateMachineArn", "name", "roleArn")),
    "Services": ("app", _apps),
    "LaunchTemplateVersions": ("launch template", _templates),
    "tasks": ("task", _tasks),
    "codeInterpreters": ("code interpreter", _plain("codeInterpreterArn", "name", "executionRoleArn")),
    "NotebookInstances": ("notebook", _plain("NotebookInstanceArn", "NotebookInstanceName", "RoleArn")),
}
"""Key of the answer of each service's own listing or description → what it tells."""
KEYS: Final = tuple(_LISTED)


def exposed(account: Account) -> tuple[Thing, ...]:
    """The functions whose own policies may let principals of other accounts in; found once."""
    if account.exposed is None:
        shown = any(":lambda:" in arn for arn in account.held.by_arn)
        functions = things(account).get("function", ()) if shown else ()
        account.exposed = tuple(thing for thing in functions if account.held.of(thing.arn) is not None)
    return account.exposed
