"""What a host's sshd trusts, collected by one script that reads and never writes: here, or over SSH.

The script takes no argument. Installed as the forced command of a login it is the whole of what that login can do:
`restrict,command="/usr/local/sbin/remit-ssh-facts" ssh-ed25519 …`. It prints a line for each thing: its kind, then
account, path and content in Base64, and `end` when it came to its end.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shlex
import signal
from contextlib import suppress
from dataclasses import dataclass, field

from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.ssh.client import Host, _options

_SECONDS = 120.0
_MOST_BYTES = 64 * 1024 * 1024

SCRIPT = r"""
set -uf
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
LC_ALL=C
export PATH LC_ALL
CONFIG=${CONFIG:-} LOG=${LOG:-}
encode() { base64 | tr -d '\n'; }
item() {
  printf '%s ' "$1"; printf %s "$2" | encode; printf ' '; printf %s "$3" | encode; printf ' '
  head -c 4194304 | encode; printf '\n'
}
file() {
  [ -e "$3" ] || return 0
  if [ ! -f "$3" ] || [ ! -r "$3" ]; then item closed "$2" "$3" </dev/null; return 0; fi
  if [ "$(wc -c <"$3")" -gt 1048576 ]; then item large "$2" "$3" </dev/null; return 0; fi
  item "$1" "$2" "$3" <"$3"
}
people() { { getent passwd || cat /etc/passwd; } 2>/dev/null | head -n 20000; }
file machine '' /etc/machine-id
uname -n | item name '' ''
date +%z | item zone '' ''
people | item passwd '' /etc/passwd
sshd=$(command -v sshd) || sshd=
settings=
if [ -z "$sshd" ]; then
  echo 'no sshd' | item refused '' sshd
elif settings=$("$sshd" -T ${CONFIG:+-f "$CONFIG"} 2>&1); then
  printf '%s\n' "$settings" | item settings '' "${CONFIG:-/etc/ssh/sshd_config}"
else
  printf '%s\n' "$settings" | item refused '' sshd
  settings=
fi
said() { printf '%s\n' "$settings" | awk -v key="$1" '$1 == key { for (at = 2; at <= NF; at++) print $at }'; }
keys=$(said authorizedkeysfile)
[ -n "$keys" ] || keys='.ssh/authorized_keys .ssh/authorized_keys2'
principals=$(said authorizedprincipalsfile)
each() {
  for pattern in $2; do
    case $pattern in none) continue ;; *%*)
      case $user$home in *[!A-Za-z0-9_./@+-]*) continue ;; esac
      pattern=$(printf %s "$pattern" | sed "s|%u|$user|g;s|%U|$uid|g;s|%h|$home|g;s|%%|%|g") ;;
    esac
    case $pattern in /*) path=$pattern ;; *) path=$home/$pattern ;; esac
    file "$1" "$user" "$path"
  done
}
people | while IFS=: read -r user _ uid _ _ home _; do
  [ -n "$user" ] || continue
  each authorized "$keys"
  each principals "$principals"
  file known "$user" "$home/.ssh/known_hosts"
done
file known '' /etc/ssh/ssh_known_hosts
for path in $(said trustedusercakeys); do [ "$path" = none ] || file authority '' "$path"; done
for path in $(said revokedkeys); do [ "$path" = none ] || file revoked '' "$path"; done
for path in $(said hostkey); do file hostkey '' "$path.pub"; done
accepted() { grep -a -E 'Accepted [a-z/-]+ for ' | tail -n 20000 | item log '' "$1"; }
if [ -n "$LOG" ]; then
  tail -c 16777216 "$LOG" 2>/dev/null | accepted "$LOG"
else
  for path in /var/log/auth.log.1 /var/log/auth.log /var/log/secure; do
    if [ -f "$path" ] && [ ! -r "$path" ]; then item closed '' "$path" </dev/null; fi
    if [ -f "$path" ] && [ -r "$path" ]; then tail -c 16777216 "$path" | accepted "$path"; fi
  done
  if command -v journalctl >/dev/null; then
    journalctl -q --no-pager -o short-iso -t sshd -t sshd-session --since=-90days 2>/dev/null | accepted journal
  fi
fi
echo end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that the script found."""

    kind: str
    """`settings`, `authorized`, `authority`, `principals`, `revoked`, `hostkey`, `known`, `log`, `closed` and so on."""
    account: str
    path: str
    data: bytes = field(repr=False)


def script(*, config: str = "", log: str = "") -> str:
    """The script for another configuration file of sshd or another log; both may be empty."""
    return f"CONFIG={shlex.quote(config)}\nLOG={shlex.quote(log)}\n{SCRIPT}"


async def here(text: str) -> list[Item]:
    """Run the script on this machine; `Unavailable` where it does not come to its end."""
    environment = {key: os.environ[key] for key in ("LANG",) if key in os.environ}
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-s", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env=environment, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(_SECONDS):
            process.stdin.write(text.encode())
            process.stdin.close()
            said = await _all(process.stdout.read)
    except TimeoutError:
        raise _short("this machine") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return parse(said, "this machine")


async def over_ssh(host: Host, user: str, key: str, text: str) -> list[Item]:
    """Run the script on a host whose key is known; a forced command there answers in its place.

    Raises `Unavailable`, `Rejected` for a host that is another, `Misconfigured` for a login that is refused.
    """
    import asyncssh

    try:
        async with asyncio.timeout(_SECONDS):
            pair = asyncssh.import_private_key(key)
            async with (
                asyncssh.connect(host.name, host.port, username=user, client_keys=[pair], **_options(host)) as made,
                made.create_process("/bin/sh -s", encoding=None) as process,
            ):
                process.stdin.write(text.encode())
                process.stdin.write_eof()
                said = await _all(process.stdout.read)
    except asyncssh.HostKeyNotVerifiable as error:
        raise Rejected(
            "inventory.ssh.host_key", f"`{host}` is not the host that is known: {error.reason[:200]}",
            next_step="compare its key on a path that you trust, then name the file: --set known_hosts=FILE",
        ) from None  # fmt: skip
    except asyncssh.PermissionDenied:
        raise Misconfigured(
            "inventory.ssh.login", f"`{host}` refuses the login `{user[:60]}`",
            next_step="`remit connectors ssh` shows the line for its authorized_keys",
        ) from None  # fmt: skip
    except asyncssh.KeyImportError:
        raise Misconfigured(
            "inventory.ssh.key", "the private key cannot be read",
            next_step="give one without a passphrase: --set key=FILE, or on standard input",
        ) from None  # fmt: skip
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise Unavailable("inventory.ssh.unreachable", f"`{host}` does not answer: {type(error).__name__}") from None
    return parse(said, str(host))


async def _all(read: object) -> bytes:
    kept: list[bytes] = []
    size = 0
    while chunk := await read(65_536):  # type: ignore[operator]
        size += len(chunk)
        if size > _MOST_BYTES:
            raise Unavailable("inventory.ssh.too_large", "the host answers more than 64 MiB")
        kept.append(chunk)
    return b"".join(kept)


def parse(said: bytes, where: str) -> list[Item]:
    """The items of an answer; `Unavailable` (`inventory.ssh.cut_short`) for one that has no end."""
    lines = said.split(b"\n")
    if b"end" not in lines[-2:]:
        raise _short(where)
    found: list[Item] = []
    for line in lines:
        words = line.split(b" ")
        if len(words) != 4:
            continue
        try:
            account, path, data = (base64.b64decode(word, validate=True) for word in words[1:])
        except ValueError:
            continue
        found.append(
            Item(
                kind=words[0].decode("ascii", "replace"), account=account.decode("utf-8", "replace"),
                path=path.decode("utf-8", "replace"), data=data,
            )
        )  # fmt: skip
    return found


def _short(where: str) -> Unavailable:
    return Unavailable(
        "inventory.ssh.cut_short", f"the answer of `{where}` ends before its end",
        next_step="see that the login may run `/bin/sh`, or that its forced command is the collector's script",
    )  # fmt: skip
