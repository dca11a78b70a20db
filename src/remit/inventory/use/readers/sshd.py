"""What sshd logs (syslog, ISO times, `journalctl -o json`, `sshd -E`) → uses of accounts and of keys.

Spec: sshd(8), sshd_config(5) LogLevel; messages of OpenSSH `auth.c` (auth_log).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from remit.inventory.use.model import Use
from remit.inventory.use.readers import Context, Told
from remit.inventory.use.readers.words import address_of, loaded, moment_of, text
from remit.kernel.ids import Name, name

_LOGIN = re.compile(
    r"(Accepted|Failed) (publickey|password|keyboard-interactive\S*|gssapi\S*) for (?:invalid user )?(\S{1,64}) "
    r"from (\S{1,64}) port \d+(?: ssh2)?(?:: (\S+) (SHA256:[A-Za-z0-9+/]{43})| ssh2)?"
)
_SYSLOG = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) ")
_MONTHS = {
    month: at
    for at, month in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)
}


def key_name(fingerprint: str) -> Name:
    """A key as ssh shows it: `SHA256:…` of its wire form, which the inventory keeps as `ssh_fingerprint`."""
    return name("ssh", "fingerprint", "key", fingerprint)


def read(record: bytes, context: Context) -> Iterator[Told]:
    line = record.decode("utf-8", "replace")
    moment, message = _parts(record, line, context)
    found = _LOGIN.search(message)
    if found is None:
        yield Told(moment=moment)
        return
    verdict, method, account, client, _, fingerprint = found.groups()
    names = [name("host", context.instance, "unix-account", account)]
    names += [key_name(fingerprint)] if fingerprint else []
    uses = (
        Use(
            name=each,
            moment=moment,
            address=address_of(client),
            program=f"ssh {method}",
            environment=context.environment,
            admitted=verdict == "Accepted",
            person="a password typed" if method.startswith(("password", "keyboard")) else "",
        )
        for each in names
    )
    yield Told(moment=moment, uses=tuple(uses))


def _parts(record: bytes, line: str, context: Context) -> tuple[datetime, str]:
    if line.startswith("{"):
        body = loaded(record)
        micros = text(body.get("__REALTIME_TIMESTAMP"))
        when = datetime.fromtimestamp(int(micros[:10]), UTC) if micros[:16].isdecimal() and len(micros) == 16 else None
        return when or context.fallback, text(body.get("MESSAGE"))
    if (found := _SYSLOG.match(line)) and found[1] in _MONTHS:
        return _dated(found, context.fallback), line
    return moment_of(line.partition(" ")[0]) or context.fallback, line


def _dated(found: re.Match[str], by: datetime) -> datetime:
    """Syslog leaves out the year: it is the last one in which the file had been written already."""
    try:
        at = datetime(
            by.year, _MONTHS[found[1]], int(found[2]), int(found[3]), int(found[4]), int(found[5]), tzinfo=UTC
        )
    except ValueError:
        return by
    return at if at <= by + timedelta(days=1) else at.replace(year=by.year - 1) if (at.month, at.day) != (2, 29) else by
