"""What a host's records mean: workloads, accounts, groups, who becomes whom, and what is wrong."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import assert_never

from remit.inventory.connectors.files.environment import record_settings
from remit.inventory.connectors.files.formats import Setting, decode, parse_dotenv
from remit.inventory.connectors.files.keys import pem_blocks
from remit.inventory.connectors.files.pem import record_block
from remit.inventory.connectors.files.readers.mcp import redact
from remit.inventory.connectors.files.record import Role
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.units import parse_unit, record_unit
from remit.inventory.connectors.host import cron, sudoers
from remit.inventory.connectors.host.accounts import (
    ADMINISTRATIVE,
    LEGACY,
    NO_LOGIN_UID,
    STRONG,
    Account,
    Group,
    Password,
    parse_accounts,
    parse_groups,
    parse_shadow,
)
from remit.inventory.connectors.host.processes import DANGEROUS
from remit.inventory.connectors.host.records import (
    AccountsRead,
    CrontabRead,
    DoasRead,
    GivenRead,
    PowerRead,
    ProcessRead,
    Programs,
    Record,
    ScriptRead,
    SudoersRead,
    UnitRead,
)
from remit.inventory.connectors.host.sudoers import Grant
from remit.inventory.connectors.host.tree import Program
from remit.inventory.model import Attribute, Autonomy, CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name

EVERYBODY = "ALL"
_SHIPPED = re.compile(r"/(?:usr/)?(?:s?bin|lib|libexec)/")


class HostSheet(Sheet):
    """A sheet whose findings are the host connector's."""

    rules = "host"


def record(sheet: HostSheet, raw: Record, accounts: Mapping[int, str]) -> None:
    """Write the facts of one record."""
    match raw:
        case AccountsRead():
            _accounts(sheet, raw)
        case UnitRead():
            _unit(sheet, raw, accounts)
        case GivenRead():
            _given(sheet, raw)
        case CrontabRead():
            _crontab(sheet, raw, accounts)
        case ScriptRead():
            _script(sheet, raw, accounts)
        case SudoersRead():
            _sudoers(sheet, raw, accounts)
        case DoasRead():
            _doas(sheet, raw)
        case PowerRead():
            _power(sheet, raw, accounts)
        case ProcessRead():
            _process(sheet, raw)
        case _:
            assert_never(raw)


# Accounts and groups


def group_of(sheet: Sheet, group: str) -> Name:
    """The Unix group of this host; `ALL` is everybody."""
    title = "everybody on the host" if group == EVERYBODY else f"group {group}"
    of = sheet.name("host", sheet.file.host, "unix-group", group)
    return sheet.identity(of, IdentityKind.GROUP, title, attributes={"host": sheet.file.host})


def _accounts(sheet: HostSheet, raw: AccountsRead) -> None:
    accounts, groups = parse_accounts(raw.file.data), parse_groups(raw.group)
    shadow = parse_shadow(raw.shadow) if raw.shadow is not None else {}
    by_gid = {group.gid: group.name for group in reversed(groups)}
    strong = {member for group in groups if _is_strong(group.name) for member in group.members}
    for account in accounts:
        password = shadow.get(account.login) or (Password(hash="" if account.hash == "empty" else account.hash)
                                                 if account.hash else None)  # fmt: skip
        first = by_gid.get(account.gid, "")
        if _counts(account, password, strong) or (_is_strong(first) and account.login != "root"):
            _account(sheet, account, password, raw)
            if _is_strong(first) and account.login != "root":
                _member(sheet, account.login, first, "its first group")
    known = {account.login for account in accounts}
    for group in groups:
        if _is_strong(group.name):
            _group(sheet, group)
            for member in group.members:
                if member in known:
                    _member(sheet, member, group.name, f"a member of {group.name}")


def _is_strong(group: str) -> bool:
    return group in STRONG or group in ADMINISTRATIVE


def _counts(account: Account, password: Password | None, strong: Iterable[str]) -> bool:
    """Whether an account is worth an identity before anything runs as it: it can log in, or is strong."""
    usable = password is not None and password.state not in {"locked", "unset"}
    own = 1000 <= account.uid < NO_LOGIN_UID - 1
    return account.uid == 0 or own or account.has_shell or usable or account.login in strong


def _account(sheet: HostSheet, account: Account, password: Password | None, raw: AccountsRead) -> None:
    state = password.state if password else ""
    person = account.uid >= 1000 and account.has_shell and " " in account.remark.partition(",")[0].strip()
    last = raw.logins.get(account.login)
    attributes: dict[str, Attribute] = {
        "host": sheet.file.host, "uid": account.uid, "shell": account.login_shell, "home": account.home,
        "can_login": account.has_shell, "purpose": account.remark.partition(",")[0], "password": state,
        "privileged": account.uid == 0 or "", "last_used": rfc3339(last) if last else "",
        "autonomy": Autonomy.HUMAN_OPERATED.value if person else "",
    }  # fmt: skip
    of = sheet.identity(
        sheet.name("host", sheet.file.host, "unix-account", account.login), IdentityKind.UNIX_ACCOUNT, account.login,
        line=account.line, attributes=attributes,
    )  # fmt: skip
    if account.uid == 0 and account.login != "root":
        sheet.edge(of, Relation.ASSUME, sheet.account("root"), "user id 0", line=account.line,
                   cut=f"usermod -u FREE_UID {account.login}")  # fmt: skip
        sheet.finding(
            "second-root", Severity.HIGH, f"account {account.login} is root by its user id",
            "whoever logs in to it is root, and logs show root",
            f"give it an id of its own: usermod -u UID {account.login}",
            subject=of, line=account.line,
        )  # fmt: skip
    if password is not None:
        _password(sheet, of, account, password)


def _password(sheet: HostSheet, of: Name, account: Account, password: Password) -> None:
    state = password.state
    if state == "none":
        sheet.finding(
            "no-password", Severity.CRITICAL if account.has_shell else Severity.MEDIUM,
            f"account {account.login} asks for no password",
            "its password field is empty: whoever may choose it at a prompt is in", f"passwd -l {account.login}",
            subject=of, line=account.line,
        )  # fmt: skip
    if state in {"none", "locked", "unset"}:
        return
    node = sheet.credential(
        sheet.fingerprint(password.hash.encode("utf-8", "replace")), CredentialKind.PASSWORD,
        f"password of {account.login}", line=account.line, identity=of, issued=password.changed, expires=password.ends,
        manager="shadow", attributes={"hash": state},
    )  # fmt: skip
    if state in LEGACY:
        sheet.finding(
            "legacy-hash", Severity.MEDIUM, f"password of {account.login} is kept as {state}",
            "a copy of shadow gives it away within hours", f"passwd {account.login}, with ENCRYPT_METHOD YESCRYPT",
            subject=node, line=account.line,
        )  # fmt: skip


def _group(sheet: HostSheet, group: Group) -> None:
    of = group_of(sheet, group.name)
    if (why := STRONG.get(group.name)) and group.name != "root":
        sheet.edge(of, Relation.ASSUME, sheet.account("root"), why, cut=f"gpasswd -M '' {group.name}")


def _member(sheet: HostSheet, login: str, group: str, why: str) -> None:
    account, of = sheet.account(login), group_of(sheet, group)
    sheet.edge(account, Relation.MEMBER_OF, of, why, cut=f"gpasswd -d {login} {group}")
    if group in STRONG and login != "root":
        sheet.finding(
            "root-by-group", Severity.HIGH, f"account {login} is root by group {group}", STRONG[group],
            f"gpasswd -d {login} {group}, and give the job what it needs alone", subject=account,
        )  # fmt: skip


# What runs


def _unit(sheet: HostSheet, raw: UnitRead, accounts: Mapping[int, str]) -> None:
    unit = parse_unit(raw.file.data, raw.label)
    if raw.label.endswith(".timer"):
        _timer(sheet, raw.label, unit.starts or raw.label.removesuffix(".timer") + ".service", unit.schedule)
        return
    node = record_unit(sheet, unit)
    if node is None:
        return
    for setting in unit.commands:
        _, secrets = redact(cron.words_of(setting.value.lstrip("@-:+!")))
        record_settings(sheet, [Setting("", key, value, setting.line) for key, value in secrets], holders=[node])
    _writable(sheet, node, raw.programs, unit.account or "root", accounts)


def _timer(sheet: HostSheet, timer: str, starts: str, schedule: tuple[str, ...]) -> None:
    if sheet.file.role is Role.VENDOR:
        return
    of = sheet.name("host", sheet.file.host, "unit", starts)
    sheet.identity(of, IdentityKind.WORKLOAD, starts, attributes={"schedule": "; ".join(schedule), "timer": timer})


def _given(sheet: HostSheet, raw: GivenRead) -> None:
    unit = sheet.name("host", sheet.file.host, "unit", raw.unit)
    if not raw.label:
        record_settings(sheet, parse_dotenv(raw.file.data), holders=[unit])
        return
    blocks = list(pem_blocks(raw.file.data))
    for block in blocks:
        record_block(sheet, block, holders=[unit], setting=raw.label)
    text = decode(raw.file.data).strip()
    if not blocks and 0 < len(text) <= 4096 and "\n" not in text:
        sheet.secret(raw.label, text, holders=[unit])


def _crontab(sheet: HostSheet, raw: CrontabRead, accounts: Mapping[int, str]) -> None:
    table = cron.parse_anacrontab(raw.file.data) if raw.anacron else cron.parse_crontab(raw.file.data, user=raw.user)
    nodes = []
    for job in table.jobs:
        words = cron.words_of(job.command)
        shown, secrets = redact(words)
        # A job is known by what it does, not by its line: lines move.
        mark = hashlib.sha256(f"{job.schedule}\0{job.command}".encode("utf-8", "replace")).digest()
        local = sheet.fingerprint(mark).partition(":")[2][:16]
        program = next((word for word in shown if word not in {"…", "["} and "=" not in word), "job")
        node = sheet.identity(
            sheet.name("host", sheet.file.host, "cron", f"{sheet.file.path}/{job.user}/{local}"),
            IdentityKind.WORKLOAD, f"{program.rpartition('/')[2] or program} of {job.user}, {job.schedule}",
            line=job.line,
            attributes={
                "schedule": job.schedule, "autonomy": Autonomy.AUTONOMOUS.value, "command": " ".join(shown)[:200],
                "service": program.rpartition("/")[2].partition(".")[0],
            },
        )  # fmt: skip
        nodes.append(node)
        sheet.edge(node, Relation.RUNS_AS, sheet.account(job.user), "the table's owner" if raw.user else "its line",
                   line=job.line, cut=f"remove line {job.line} of {sheet.file.path}")  # fmt: skip
        record_settings(sheet, [Setting("", key, value, job.line) for key, value in secrets], holders=[node])
        path = cron.program_of(words)
        _writable(sheet, node, {p: q for p, q in raw.programs.items() if p == path}, job.user, accounts)
    record_settings(sheet, table.environment, holders=nodes)
    if table.broken:
        sheet.skip("malformed", f"{len(table.broken)} lines are no jobs, the first is {table.broken[0]}")


def _script(sheet: HostSheet, raw: ScriptRead, accounts: Mapping[int, str]) -> None:
    label = f"cron.{raw.period}/{raw.file.name}"
    node = sheet.identity(
        sheet.name("host", sheet.file.host, "cron", label), IdentityKind.WORKLOAD, label,
        attributes={"schedule": raw.period, "autonomy": Autonomy.AUTONOMOUS.value, "service": raw.file.name},
    )  # fmt: skip
    sheet.edge(node, Relation.RUNS_AS, sheet.account("root"), "run-parts of root")
    if raw.program is not None:
        _writable(sheet, node, {raw.program.path: raw.program}, "root", accounts)


def _writable(sheet: HostSheet, node: Name, programs: Programs, account: str, accounts: Mapping[int, str]) -> None:
    """Who may change a program becomes whoever runs it."""
    for path, program in programs.items():
        by = _changers(program, account, accounts)
        if not by:
            continue
        for changer in by:
            who = group_of(sheet, changer) if changer == EVERYBODY else sheet.account(changer)
            sheet.edge(
                who, Relation.DEPLOYS, node, f"may write to {path}", cut=f"chown root: {path} && chmod go-w {path}"
            )
        sheet.finding(
            "writable-program", Severity.HIGH if account == "root" else Severity.MEDIUM,
            f"{clean(path, 80)} runs as {account}, and {', '.join(by)} may change it",
            "what is written there runs with the other account's rights the next time",
            f"chown root: {path} && chmod go-w {path}", subject=node,
        )  # fmt: skip


def _changers(program: Program, account: str, accounts: Mapping[int, str]) -> list[str]:
    owner = accounts.get(program.owner, f"uid-{program.owner}")
    found = [owner] if program.owner != 0 and owner != account else []
    return [*found, EVERYBODY] if program.changed_by_all else found


def _process(sheet: HostSheet, raw: ProcessRead) -> None:
    if not raw.unit and not raw.listens and not raw.environments:
        return
    label = raw.unit or f"{raw.program}@{raw.account}"
    listens = ", ".join(raw.listens)
    node = sheet.identity(
        sheet.name("host", sheet.file.host, "unit" if raw.unit else "process", label), IdentityKind.WORKLOAD,
        raw.unit or f"{raw.program.rpartition('/')[2]} of {raw.account}",
        attributes={
            "program": raw.program, "processes": raw.count, "listens": listens, "last_used": rfc3339(sheet.now),
            "service": label.rpartition("/")[2].partition(".")[0].partition("@")[0],
        },
    )  # fmt: skip
    sheet.edge(node, Relation.RUNS_AS, sheet.account(raw.account), f"{raw.program} runs so now")
    for environment in sorted(raw.environments):
        record_settings(sheet, [Setting("", key, value, 1) for key, value in environment], holders=[node])


# Who becomes whom


def _sudoers(sheet: HostSheet, raw: SudoersRead, accounts: Mapping[int, str]) -> None:
    rules = sudoers.parse_sudoers(raw.parts)
    cut = "remove line {line} of {path}: visudo -f {path}"
    _grants(sheet, rules.grants, "sudo", cut, target_asked=rules.asks_target)
    for grant in rules.grants:
        path = grant.command.partition(" ")[0]
        program = raw.programs.get(path)
        if program is None or grant.negated:
            continue
        for changer in _changers(program, "root", accounts):
            if changer == EVERYBODY or changer in grant.users:
                sheet.finding(
                    "writable-program", Severity.HIGH, f"{', '.join(grant.users)[:60]} may change {clean(path, 80)}, "
                    "which sudo runs as another", "what is written there runs with the other account's rights",
                    f"chown root: {path} && chmod go-w {path}", line=grant.line,
                )  # fmt: skip
                for user in grant.users:
                    for target in _targets(grant):
                        sheet.edge(_subject(sheet, user), Relation.ASSUME, sheet.account(target),
                                   f"sudo runs {path}, which it may change")  # fmt: skip
    if rules.broken:
        path, line = rules.broken[0]
        sheet.skip("malformed", f"{len(rules.broken)} rules of sudo cannot be read, the first at {path}:{line}")


def _doas(sheet: HostSheet, raw: DoasRead) -> None:
    grants, broken = sudoers.parse_doas(raw.file.data)
    _grants(sheet, [_at(grant, raw.file.path) for grant in grants], "doas", "remove line {line} of {path}")
    if broken:
        sheet.skip("malformed", f"{len(broken)} lines are no rules, the first is {broken[0]}")


def _at(grant: Grant, path: str) -> Grant:
    return replace(grant, path=path)


def _subject(sheet: Sheet, user: str) -> Name:
    if user == EVERYBODY:
        return group_of(sheet, EVERYBODY)
    if user.startswith("%"):
        return group_of(sheet, user.lstrip("%:"))
    if user.startswith("+"):
        return group_of(sheet, f"netgroup {user[1:]}")
    return sheet.account(f"uid-{user[1:]}" if user.startswith("#") else user)


def _targets(grant: Grant) -> list[str]:
    """Whose rights a rule gives: root's where it says all, for root is among them."""
    return list(dict.fromkeys("root" if who in {"ALL", "#0"} else who for who in grant.runas if who[:1] not in "%+"))


def _grants(sheet: HostSheet, grants: Iterable[Grant], tool: str, cut: str, *, target_asked: bool = False) -> None:
    held: dict[tuple[str, str], list[Grant]] = {}
    for grant in grants:
        for user in grant.users:
            for target in _targets(grant):
                of = held.setdefault((user, target), [])
                if grant.negated and grant.command == "ALL":
                    of.clear()  # the last rule that fits holds
                else:
                    of.append(grant)
    for (user, target), rules in held.items():
        allowed = [grant for grant in rules if not grant.negated]
        if allowed and user != "root" and user != target:
            _become(sheet, user, target, allowed, [grant for grant in rules if grant.negated], tool, cut,
                    target_asked=target_asked)  # fmt: skip


def _become(
    sheet: HostSheet, user: str, target: str, allowed: list[Grant], refused: list[Grant], tool: str, cut: str,
    *, target_asked: bool,
) -> None:  # fmt: skip
    # The rule that gives most is the one that an attacker takes.
    best = min(
        allowed, key=lambda grant: (not sudoers.gives_everything(grant.command), grant.asks, grant.hosts != ("ALL",))
    )
    conditions = []
    if not sudoers.gives_everything(best.command):
        conditions.append("only " + "; ".join(dict.fromkeys(grant.command for grant in allowed)))
    if best.asks:
        conditions.append(f"by {target}'s password" if target_asked else "by the account's own password")
    if best.hosts != ("ALL",):
        conditions.append("on " + ", ".join(best.hosts))
    if refused:
        conditions.append("not " + "; ".join(grant.command for grant in refused))
    source, become = _subject(sheet, user), sheet.account(target)
    evidence = f"{tool}: {'' if best.asks else 'NOPASSWD: '}{best.command}"
    sheet.edge(
        source, Relation.ASSUME, become, evidence, line=best.line, conditions=conditions,
        actions=tuple(dict.fromkeys(clean(grant.command, 120) for grant in allowed))[:20],
        cut=cut.format(line=best.line, path=best.path),
    )  # fmt: skip
    if best.asks or not sudoers.gives_everything(best.command):
        return
    named = best.command == "ALL"
    sheet.finding(
        "become-without-password" if named else "become-by-escape",
        Severity.CRITICAL if user == EVERYBODY else Severity.HIGH,
        f"{clean(user, 60)} becomes {target} by {tool} without a password",
        "every command is allowed"
        if named
        else f"`{clean(best.command, 80)}` with free arguments opens a shell or any file",
        "name the commands that the job needs with their arguments, or give it a role for the time of a task",
        subject=source, line=best.line,
    )  # fmt: skip


def _power(sheet: HostSheet, raw: PowerRead, accounts: Mapping[int, str]) -> None:
    path = raw.file.path
    strong = sorted(set(raw.capabilities) & DANGEROUS)
    target = "root" if strong or raw.owner == 0 else accounts.get(raw.owner, f"uid-{raw.owner}")
    if raw.capabilities and not strong:
        return
    if not strong and raw.owner == 0 and _SHIPPED.match(path) and not path.startswith("/usr/local"):
        return  # the distribution's own
    open_to_all = bool(raw.mode & stat.S_IXOTH)
    source = group_of(sheet, EVERYBODY if open_to_all else "members of its group")
    why = f"{', '.join(strong)} on {path}" if strong else f"{path} is set-user-id of {target}"
    cut = f"setcap -r {path}" if strong else f"chmod u-s {path}"
    condition = "as far as the program lets its caller"
    sheet.edge(source, Relation.ASSUME, sheet.account(target), why, conditions=[condition], cut=cut)
    of = sheet.name("host", sheet.file.host, "program", path)
    sheet.resource(of, "program", path, owner=target, capabilities=", ".join(raw.capabilities))
    sheet.finding(
        "elevating-program",
        Severity.HIGH if target == "root" else Severity.MEDIUM,
        f"{clean(path, 80)} runs as {target} whoever starts it",
        why,
        f"{cut}, unless the program was written for it",
        subject=of,
    )


__all__ = ["EVERYBODY", "HostSheet", "group_of", "record"]
