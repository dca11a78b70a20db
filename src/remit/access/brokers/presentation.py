"""How the target's own clients find a credential: environment variables, and private files.

A broker says it of each credential it mints; whoever starts the task writes the files and sets the variables, and knows
no system by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

DIRECTORY = "${REMIT_CREDENTIALS}"
"""In the text of a file it stands for the private directory where the files will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A minted credential on its way to a task."""

    target: str
    role: str
    """As the need names it."""
    settings: Mapping[str, str]
    """What `Minted` said."""
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """What the clients of one system read."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Without secrets; set where the task has one credential of the system."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """As `variables`, and only where the caller asked for secrets in the environment."""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Plain file name → text, mode 0600. What several credentials say for one name is joined; of two sections with the
    same `[HEAD]` the first stays."""
    pointers: Mapping[str, str] = field(default_factory=dict)
    """Variable → name of a file; set where all credentials of the task agree on it."""
    stale: tuple[str, ...] = ()
    """Variables that are removed from the task's environment: what the caller had there would win over the lease."""
    withheld: bool = False
    """The lease's own secret does not go to the task: it is the handle by which the lease ends, no credential."""
    url: str = field(default="", repr=False)
    """With the secret, as libraries read it; becomes `TARGET_URL` where secrets in the environment were asked for."""


def url_of(
    scheme: str, credential: Credential, *, path: str = "", query: Mapping[str, str] | None = None, user: str = ""
) -> str:
    """`SCHEME://USER:SECRET@HOST:PORT/PATH?QUERY`, every part encoded; host, port, user by the settings."""
    settings = credential.settings
    host, port = settings.get("host", ""), settings.get("port", "")
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    name, secret = quote(user or settings.get("user", ""), safe=""), quote(credential.secret, safe="")
    rest = "&".join(f"{key}={quote(value, safe='')}" for key, value in (query or {}).items())
    where = host + (f":{port}" if port else "")
    return f"{scheme}://{name}:{secret}@{where}/{quote(path, safe='')}" + (f"?{rest}" if rest else "")
