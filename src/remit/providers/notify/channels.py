"""Channels by `apprise`: each is a name and a URL, and the URL is a secret.

The file has one channel a line, `NAME URL` (https://github.com/caronc/apprise lists the URLs); `#` begins a comment. It
is readable to its owner alone. A URL never appears in a message, a log or a repr: channels are told apart by name.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from remit.kernel.errors import Misconfigured

MAX_CHANNELS: Final = 20
_MAX_BYTES: Final = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_log = logging.getLogger("remit.notify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where people hear of what waits for them."""

    name: str
    url: str = field(repr=False)


def read_channels(path: Path) -> tuple[Channel, ...]:
    """The channels of a file. Raises `Misconfigured` (`providers.notify.file`, `.mode`, `.malformed`)."""
    try:
        if path.stat().st_mode & 0o077:
            raise Misconfigured(
                "providers.notify.mode", f"`{path}` can be read by others", next_step=f"chmod 600 {path}"
            )
        text = path.read_bytes()[: _MAX_BYTES + 1].decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise Misconfigured("providers.notify.file", f"the channels in `{path}` cannot be read") from None
    found: dict[str, Channel] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, url = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if _NAME.fullmatch(name) is None or "://" not in url or name in found or len(found) >= MAX_CHANNELS:
            raise Misconfigured(
                "providers.notify.malformed",
                f"line {number} of `{path}` is no channel",
                next_step=f"write `NAME URL`, each name once, at most {MAX_CHANNELS}",
            )
        found[name] = Channel(name=name, url=url.strip())
    return tuple(found.values())


class Messenger:
    """Sends a message to every channel, each on its own: one that fails keeps none of the others from hearing."""

    def __init__(self, channels: Sequence[Channel], *, timeout: timedelta = timedelta(seconds=20)) -> None:
        self._channels = tuple(channels)
        self._timeout = timeout.total_seconds()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self._channels)

    async def tell(self, title: str, body: str) -> Mapping[str, bool]:
        """Send; says of each channel whether it took the message. Never raises for a channel that does not."""
        answers = await asyncio.gather(*(self._send(channel, title, body) for channel in self._channels))
        return dict(zip(self.names, answers, strict=True))

    async def _send(self, channel: Channel, title: str, body: str) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                taken = await asyncio.to_thread(_notify, channel.url, title, body)
        except TimeoutError:
            taken = False
        if not taken:
            _log.warning("the channel `%s` did not take a message", channel.name)
        return taken


def _notify(url: str, title: str, body: str) -> bool:
    try:
        import apprise
    except ModuleNotFoundError:
        _log.error("channels need the extra: pip install 'remit[notify]'")
        return False
    # INVARIANT: its own log names URLs, which are secrets.
    logging.getLogger("apprise").disabled = True
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    post = apprise.Apprise()
    try:
        return bool(post.add(url)) and bool(post.notify(title=title[:250], body=body[:4000]))
    except (OSError, TypeError, ValueError):
        return False
