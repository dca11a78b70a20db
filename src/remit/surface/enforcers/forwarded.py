"""The request that a proxy asks about, as each proxy tells of it. Nothing here is believed yet.

    proxy    method, host, target                               certificate of the client
    envoy    the request's own, behind our path; gRPC: fields    x-forwarded-client-cert (XFCC); gRPC: source
    nginx    X-Original-Method, X-Original-Host, X-Original-URI  X-Client-Cert (`$ssl_client_escaped_cert`)
    traefik  X-Forwarded-Method, -Host, -Uri                     X-Forwarded-Tls-Client-Cert (passTLSClientCert)

A header that says one of these twice is refused: the proxy said it once, and its client the other time.

Spec: Envoy, HTTP header `x-forwarded-client-cert`; nginx, ngx_http_auth_request_module; Traefik, ForwardAuth.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from remit.kernel.errors import Rejected
from remit.surface.enforcers.tables import Proxy

Headers = Mapping[str, Sequence[str]]
MAX_CERTIFICATES: Final = 8
_MAX_XFCC: Final = 32 * 1024
_HOST: Final = re.compile(r"[A-Za-z0-9.\-_]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_BARE: Final = re.compile(r"[A-Za-z0-9+/=]+")
_PAIR: Final = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)')
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Whom the proxy's own handshake met, in the proxy's words."""

    principal: str = ""
    """The URI name."""
    chain: tuple[bytes, ...] = ()
    """DER certificates, leaf first."""
    sha256: str = ""
    """Digest of the leaf, in hexadecimal."""

    def __bool__(self) -> bool:
        return bool(self.principal or self.chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """One request at a proxy."""

    method: str
    host: str
    target: str
    """Path and query, as the client spelt them."""
    authorization: tuple[str, ...] = field(default=(), repr=False)
    dpop: tuple[str, ...] = field(default=(), repr=False)
    client: Client = Client()
    source: str = ""
    """The client's network address."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


def from_http(proxy: Proxy, method: str, target: str, headers: Headers, *, believes_certificate: bool) -> Forwarded:
    """The request of an HTTP sub-request; `target` is what follows our own path. `Rejected` (`surface.enforcer.…`).

    Certificates are read where the table says that this proxy terminates TLS, and nowhere else.
    """
    if proxy is Proxy.ENVOY:
        host, source = _one(headers, "host"), ""
        client = parse_xfcc(headers.get("x-forwarded-client-cert", ())) if believes_certificate else Client()
    elif proxy is Proxy.NGINX:
        method, host, target = (_one(headers, f"x-original-{name}") for name in ("method", "host", "uri"))
        source = _one(headers, "x-real-ip", optional=True)
        client = _pem_client(_one(headers, "x-client-cert", optional=True)) if believes_certificate else Client()
    else:
        method, host, target = (_one(headers, f"x-forwarded-{name}") for name in ("method", "host", "uri"))
        source = _one(headers, "x-real-ip", optional=True)
        shown = _one(headers, "x-forwarded-tls-client-cert", optional=True) if believes_certificate else ""
        client = _pem_client(shown)
    return checked(
        Forwarded(
            method=method, host=host, target=target, authorization=tuple(headers.get("authorization", ())),
            dpop=tuple(headers.get("dpop", ())), client=client, source=source,
        )
    )  # fmt: skip


def checked(asked: Forwarded) -> Forwarded:
    """Hold method and host to their form. `Rejected` (`surface.enforcer.request`)."""
    if not _METHOD.fullmatch(asked.method) or not _HOST.fullmatch(asked.host):
        raise malformed("its method or its host is none")
    return asked


def parse_xfcc(values: Sequence[str]) -> Client:
    """The one element of an `x-forwarded-client-cert`; none is nobody. `Rejected` (`surface.enforcer.certificate`).

    A second element was there before this proxy's, so that one of them is another's word: refused.
    """
    if not values:
        return Client()
    if len(values) > 1 or len(values[0]) > _MAX_XFCC:
        raise _certificate("it comes twice, or is too long")
    found: dict[str, str] = {}
    rest = values[0]
    while rest:
        pair = _PAIR.match(rest)
        if pair is None:
            raise _certificate("it cannot be read")
        key, value = pair[1].lower(), _unquoted(pair[2])
        rest = rest[pair.end() :]
        if key in found and key != "dns":
            raise _certificate(f"it names `{pair[1]}` twice")
        found[key] = value
        if rest.startswith(","):
            raise _certificate("it has several elements: let the proxy replace what a client sends (`SANITIZE_SET`)")
        if rest:
            if not rest.startswith(";"):
                raise _certificate("it cannot be read")
            rest = rest[1:]
    chain = pem_chain(unquote(found["chain"])) if found.get("chain") else ()
    leaf = pem_chain(unquote(found["cert"])) if found.get("cert") else ()
    if leaf and chain and chain[0] != leaf[0]:
        raise _certificate("`Cert` and `Chain` begin with different certificates")
    digest = found.get("hash", "")
    if digest and not _SHA256.fullmatch(digest):
        raise _certificate("its `Hash` is no SHA-256")
    return Client(principal=found.get("uri", ""), chain=chain or leaf, sha256=digest.lower())


def pem_chain(text: str) -> tuple[bytes, ...]:
    """DER certificates of PEM, or of the bare base64 that Traefik sends. `Rejected` (`….certificate`)."""
    found = _PEM.findall(text)
    if not found:
        found = [part for part in text.split(",") if part]
        if not all(_BARE.fullmatch(part) for part in found):
            raise _certificate("it is no PEM")
    if len(found) > MAX_CERTIFICATES:
        raise _certificate(f"it has more than {MAX_CERTIFICATES} certificates")
    return tuple(_der(part) for part in found)


def malformed(why: str) -> Rejected:
    """A sub-request that does not tell of a request as its proxy would."""
    return Rejected(
        "surface.enforcer.request", f"the proxy does not tell of a request: {why}", next_step="see docs/enforcers.md"
    )


def _pem_client(text: str) -> Client:
    return Client(chain=pem_chain(unquote(text))) if text else Client()


def _one(headers: Headers, name: str, *, optional: bool = False) -> str:
    values = headers.get(name, ())
    if len(values) == 1 or (optional and not values):
        return values[0] if values else ""
    raise malformed(f"`{name}` is there {len(values)} times")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _der(body: str) -> bytes:
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (ValueError, binascii.Error):
        raise _certificate("it is no base64") from None


def _certificate(why: str) -> Rejected:
    return Rejected("surface.enforcer.certificate", f"the forwarded client certificate is not taken: {why}")


def many(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Every value of each header, by its name in lower case."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        found[name.lower()] = (*found.get(name.lower(), ()), value)
    return found
