"""What root runs on a host before leases can be minted there: the helper, its folder, and sshd's settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

from remit.access.brokers.ssh_settings import STATE, Settings
from remit.providers.ssh.target import PARTS

_OURS = re.compile(r"^from remit\.[^\n]*\n", re.MULTILINE)
DROP_IN = "/etc/ssh/sshd_config.d/10-remit.conf"


def helper_text() -> str:
    """The program that runs on hosts: one file of its parts, without what they say of Remit's own folders."""
    folder = files("remit.providers.ssh.target")
    parts = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in PARTS]
    explained = parts[-1].partition("from __future__")[0]
    bodies = (_OURS.sub("", part.partition("import annotations\n")[2]) for part in parts)
    return f"#!/usr/bin/python3 -IS\n{explained}from __future__ import annotations\n" + "".join(bodies)


def sshd_settings(settings: Settings) -> str:
    """What sshd must be told."""
    return (
        f"TrustedUserCAKeys {settings.state}/ca.pub\n"
        f"RevokedKeys {settings.state}/krl\n"
        f"AuthorizedPrincipalsCommand /usr/bin/python3 -IS {settings.program} --state {settings.state} "
        "principals %i %s %u %f\n"
        "AuthorizedPrincipalsCommandUser root\n"
    )


def install_script(settings: Settings, authority: str, accounts: Sequence[str]) -> str:
    """A script for /bin/sh; running it again changes nothing. Its last line says `remit: installed`.

    Where the folder is another than the usual one, sshd is somebody else's to set: its settings are printed.
    """
    state, program = settings.state, settings.program
    return f"""set -eu
umask 022
mkdir -p {program.rpartition("/")[0] or "/"} {state}
cat > {program}.new <<'REMIT_END_OF_HELPER'
{helper_text()}REMIT_END_OF_HELPER
chmod 755 {program}.new
mv {program}.new {program}
echo '{authority}' > {state}/ca.pub
printf '%s\\n' {" ".join(accounts)} > {state}/accounts
{program} --state {state} init
{_drop_in(settings) if state == STATE else _shown(settings)}echo "remit: installed"
"""


def _drop_in(settings: Settings) -> str:
    return f"""mkdir -p {DROP_IN.rpartition("/")[0]}
cat > {DROP_IN}.new <<'REMIT_END_OF_SETTINGS'
{sshd_settings(settings)}REMIT_END_OF_SETTINGS
mv {DROP_IN}.new {DROP_IN}
sshd=$(command -v sshd || echo /usr/sbin/sshd)
if ! "$sshd" -t || ! "$sshd" -T | grep -qi '^revokedkeys {settings.state}/krl'; then
  rm {DROP_IN}
  echo "remit: sshd does not take {DROP_IN}: does sshd_config include its folder, and first?" >&2
  exit 1
fi
systemctl reload ssh 2>/dev/null || systemctl reload sshd 2>/dev/null ||
  {{ [ ! -f /run/sshd.pid ] || kill -HUP "$(cat /run/sshd.pid)"; }}
"""


def _shown(settings: Settings) -> str:
    return f"""cat <<'REMIT_END_OF_SETTINGS'
{sshd_settings(settings)}REMIT_END_OF_SETTINGS
"""
