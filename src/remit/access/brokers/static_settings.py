"""What a target of static secrets can be told: which secret, how requests carry it, and what a role may ask for."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from remit.access.brokers.options import bad_option, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured

MANIFEST = BrokerManifest(
    id="static",
    title="HTTP APIs that know static secrets alone",
    needs=(
        "remit secret add NAME --for target/TARGET    # the secret rests in the vault; tasks never get it",
        '# rotate=["/path/of/a/program"] runs that program as the user of Remit after each use: let it be able to '
        "change this one secret",
        "# rotate=plan:NAME has a plan of rotation replace it, where the secret is a login's on another target",
    ),
    fail_safe=True,
    hazards=(
        "the secret itself is as mighty as before: who else knows it goes past the gateway, until it is rotated",
        "without `rotate` and `probe` the secret stays what it was after a use",
        "a lease's key is taken on loopback of the machine where Remit runs, from whoever shows it, while the lease "
        "lives",
        "after a restart of Remit its gateway has another port and knows no key: leases end, and tasks start anew",
        "where the API takes one value at a time, requests of other leases may be refused there for the moment between "
        "the program of `rotate` and the proof of the new value",
        "what the upstream answers is searched for the secret as it was sent; one that it rewrites is not found",
    ),
)

_OPTIONS = frozenset({"secret", "as", "name", "prefix", "user", "tls", "ca", "rotate", "probe"})
_SECRET = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FIELD = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_METHODS = re.compile(r"[A-Z]{3,10}(?:,[A-Z]{3,10}){0,7}")
_PATTERN = re.compile(r"/[A-Za-z0-9._~{}*/-]{0,400}")
_PROBE = re.compile(r"/[A-Za-z0-9._~/?=&-]{0,190}")
_BROAD = frozenset({"/*", "/**"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options, decoded: unknown keys are errors."""

    secret: str
    kind: Literal["header", "basic"]
    name: str
    """The field that carries it, in lower case."""
    prefix: str
    user: str
    upstream: str
    ca: str
    rotate: tuple[str, ...]
    """The program that makes a new value count, and its arguments; empty for none."""
    plan: str
    """The plan of rotation that replaces the secret; empty for none."""
    probe: str
    """A path that the upstream serves to the secret and to nobody else."""

    def carry(self, value: str) -> tuple[str, str]:
        """The field of a request that carries `value`."""
        import base64

        if self.kind == "basic":
            return "authorization", "Basic " + base64.b64encode(f"{self.user}:{value}".encode()).decode()
        return self.name, f"{self.prefix}{value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Requests that a role may make."""

    methods: tuple[str, ...]
    pattern: str


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured` (`access.target.option`, `access.static.role`) names what is wrong."""
    options: Mapping[str, str] = target.options
    require_known(options, _OPTIONS)
    if not _SECRET.fullmatch(options.get("secret", "")):
        raise bad_option("secret", "name the secret: `remit secret ls`")
    kind = options.get("as", "header")
    if kind not in ("header", "basic"):
        raise bad_option("as", "use `header` or `basic`")
    if kind == "basic" and (not options.get("user") or ":" in options["user"]):
        raise bad_option("user", "name the user of basic authentication")
    name = options.get("name", "authorization")
    if not _FIELD.fullmatch(name) or name in ("host", "content-length", "transfer-encoding", "connection"):
        raise bad_option("name", "name a field in lower case, as `x-api-key`")
    for role in target.roles.values():
        decode_role(role)
    rotate, plan = _rotation(options.get("rotate", ""))
    probe = options.get("probe", "")
    if probe and not _PROBE.fullmatch(probe):
        raise bad_option("probe", "name a path that needs the secret, as `/v1/me`")
    if rotate and not probe:
        raise bad_option("probe", "a rotation is proved by it: name a path that needs the secret")
    prefix = options.get("prefix", "Bearer " if name == "authorization" else "")
    return Settings(
        secret=options["secret"], kind="basic" if kind == "basic" else "header", name=name, prefix=prefix,
        user=options.get("user", ""), upstream=_upstream(target), ca=options.get("ca", ""), rotate=rotate, plan=plan,
        probe=probe,
    )  # fmt: skip


def decode_role(role: str) -> Sequence[Allowed]:
    """Read `METHOD[,METHOD] /PATTERN` once or more often, as `GET,HEAD /orders/** POST /orders`."""
    words = role.split()
    if not words or len(words) % 2:
        raise _bad_role(role, "write it as `METHOD[,METHOD] /PATH`, as often as needed")
    found = []
    for methods, pattern in zip(words[::2], words[1::2], strict=True):
        if not _METHODS.fullmatch(methods) or not _PATTERN.fullmatch(pattern) or pattern in _BROAD:
            raise _bad_role(f"{methods} {pattern}", "name methods in capitals, and a path that is not everything")
        found.append(Allowed(methods=tuple(methods.split(",")), pattern=pattern))
    return found


def _upstream(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    if target.options.get("tls", "true") not in ("true", "false"):
        raise bad_option("tls", "use `true`, or `false` on this machine")
    if target.options.get("tls") == "false":
        if not _loopback(target.host):
            raise bad_option("tls", "a secret goes over TLS, or to this machine")
        return f"http://{host}:{target.port}"
    return f"https://{host}:{target.port}"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _rotation(text: str) -> tuple[tuple[str, ...], str]:
    """A program with its arguments, or the name of a plan."""
    kind, sign, name = text.partition(":")
    if sign and kind == "plan":
        if not _SECRET.fullmatch(name):
            raise bad_option("rotate", "name a plan as `plan:NAME`: `remit rotate plans`")
        return (), name
    return _argv(text) if text else (), ""


def _argv(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(each, str) and each for each in found):
        raise bad_option(
            "rotate", 'write the program and its arguments as a JSON list: ["/usr/local/bin/rotate"], or plan:NAME'
        )
    if not found[0].startswith("/"):
        raise bad_option("rotate", "name the program by its whole path")
    return tuple(found)


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.static.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
