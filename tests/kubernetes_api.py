"""An API server of Kubernetes for tests: its wire, its RBAC, its bound tokens; in memory, over TLS, in threads.

An emulation: no kube-apiserver is to be had in a package. What it does is what the documentation of Kubernetes says and
what kubectl and the official client library, which judge it, can use: discovery, objects with resourceVersion, watches,
finalizers, paging; TokenRequest with ES256 tokens bound to objects by UID; TokenReview, SelfSubjectReview,
SelfSubjectAccessReview; RBAC evaluated on its objects, with both checks against escalation. As the real one it
authenticates a watch when it begins, and never again; and it may remember admitted tokens (`token_cache`).
"""

from __future__ import annotations

import base64
import re
import secrets
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jwt
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certificates import certificate, usage
from kubernetes_kinds import BOOTSTRAP, KINDS, REVIEWS, Failure, Kind, discovery
from kubernetes_rbac import GROUP, Ask, Object, Rbac, User
from kubernetes_wire import Server

ISSUER = "https://kubernetes.default.svc"
_DNS = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_RBAC_NAME = re.compile(r"[^/%]{1,253}")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LEAST_SECONDS = 600


@dataclass(slots=True)
class KubernetesApi:
    """The objects, and what a request does to them. `serve` puts it on a port."""

    folder: Path
    port: int = 0
    admin: str = field(default_factory=lambda: secrets.token_hex(20))
    """A token in `system:masters`."""
    token_cache: float = 0
    """Seconds for which a token that was admitted stays so, whatever happens (10 in a real API server)."""
    shortest: int = 0
    """Tokens live at least so many seconds, whatever was asked."""
    binds_tokens: bool = True
    budget: int | None = None
    """So many requests that change something are served, and then none."""
    trusting: bool = False
    """Everybody is an administrator."""
    store: dict[tuple[str, str, str, str], Object] = field(default_factory=dict)
    events: list[tuple[int, str, Kind, Object]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))
    version: int = 0
    stopping: bool = False
    streams: int = 0
    """Watches that are open."""
    page: int = 0
    """A page is never longer than this, where it is set."""
    forgets: int = 0
    """So many lists are forgotten (410) when their second page is asked for."""
    fails: list[int] = field(default_factory=list)
    """Statuses with which the next requests for lists are answered."""
    seen: list[str] = field(default_factory=list)
    """Methods and paths of the requests."""
    server: Any = None
    _key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    _admitted: dict[str, tuple[User, float]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def rbac(self) -> Rbac:
        return Rbac(self.store)

    # Administration, by the tests

    def apply(self, text: str) -> None:
        """Create the objects of a YAML text, as an administrator; what is there stays."""
        for one in yaml.safe_load_all(text):
            kind = next(known for known in KINDS if known.kind == one["kind"])
            space = one["metadata"].get("namespace", "") if kind.namespaced else ""
            with suppress(Failure):
                self.create(_MASTER, kind, space, one)

    def namespace(self, *names: str) -> None:
        for name in names:
            self.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")

    def patch(self, resource: str, namespace: str, name: str, change: Object) -> None:
        self.merge(_MASTER, next(one for one in KINDS if one.resource == resource), namespace, name, change)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        self.delete(next(one for one in KINDS if one.resource == resource), namespace, name)

    def forget_tokens(self) -> None:
        self._admitted.clear()

    def rbac_says(self, token: str, verb: str, resource: str, namespace: str) -> bool:
        user = self.user_of(token)
        return user is not None and self.rbac.allows(user, Ask(verb=verb, resource=resource, namespace=namespace))

    def names(self, resource: str, namespace: str = "") -> list[str]:
        with self.changed:
            return sorted(key[3] for key in self.store if key[1] == resource and key[2] == namespace)

    def find(self, resource: str, namespace: str, name: str) -> Object:
        return next(one for key, one in self.store.items() if key[1:] == (resource, namespace, name))

    def stop(self) -> None:
        """As if its machine were switched off; works twice."""
        server, self.server = self.server, None
        if server is None:
            return
        self.stopping = True
        with self.changed:
            self.changed.notify_all()
        server.shutdown()
        server.server_close()
        server.hang_up()

    # Authentication

    def token_for(self, account: str, namespace: str, seconds: int, holder: Object | None = None) -> Object:
        """A token of a service account; `holder`: the object with which it falls."""
        now = int(time.time())
        about: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {
                "name": account,
                "uid": self._of("serviceaccounts", namespace, account)["metadata"]["uid"],
            },
        }
        if holder is not None:
            about["secret"] = {"name": holder["metadata"]["name"], "uid": holder["metadata"]["uid"]}
        claims = {
            "iss": ISSUER, "aud": [ISSUER], "sub": f"system:serviceaccount:{namespace}:{account}",
            "iat": now, "nbf": now, "exp": now + max(seconds, self.shortest), "jti": secrets.token_hex(16),
            "kubernetes.io": about,
        }  # fmt: skip
        token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "test"})
        expires = datetime.fromtimestamp(int(str(claims["exp"])), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"token": token, "expirationTimestamp": expires}

    def user_of(self, token: str) -> User | None:
        """Who shows this token; `None`: nobody."""
        if self.trusting or token == self.admin:
            return _MASTER
        held = self._admitted.get(token)
        if held is not None and time.monotonic() < held[1]:
            return held[0]
        user = self._by_token(token)
        if user is not None and self.token_cache:
            self._admitted[token] = (user, time.monotonic() + self.token_cache)
        return user

    def _by_token(self, token: str) -> User | None:
        try:
            claims = jwt.decode(token, self._key.public_key(), algorithms=["ES256"], issuer=ISSUER, audience=ISSUER)
        except jwt.PyJWTError:
            return None
        about = claims["kubernetes.io"]
        space, account = about["namespace"], about["serviceaccount"]
        named = [("serviceaccounts", account)] + ([("secrets", about["secret"])] if "secret" in about else [])
        for resource, one in named:
            found = self.store.get(("", resource, space, one["name"]))
            if found is None or found["metadata"]["uid"] != one["uid"] or _long_dying(found):
                return None
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{space}", "system:authenticated")
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        return User(name=claims["sub"], uid=account["uid"], groups=groups, extra=extra)

    # Objects

    def create(self, user: User, kind: Kind, space: str, body: Object) -> Object:
        meta = dict(body.get("metadata") or {})
        name = str(meta.get("name") or "")
        pattern = _RBAC_NAME if kind.group == GROUP else _DNS
        if not pattern.fullmatch(name):
            raise Failure(422, "Invalid", f'{kind.kind} "{name}" is invalid: metadata.name: Invalid value: "{name}"')
        for key, value in (meta.get("labels") or {}).items():
            if not _LABEL.fullmatch(str(value)):
                raise Failure(422, "Invalid", f'metadata.labels: Invalid value: "{value}" of {key}')
        if meta.get("namespace", space) != space:
            raise Failure(400, "BadRequest", "the namespace of the provided object does not match the request")
        with self.changed:
            if kind.namespaced and ("", "namespaces", "", space) not in self.store:
                raise Failure(404, "NotFound", f'namespaces "{space}" not found')
            self._guard(user, kind, space, body)
            if (kind.group, kind.resource, space, name) in self.store:
                raise Failure(409, "AlreadyExists", f'{kind.resource} "{name}" already exists')
            meta |= {"uid": _uid(), "creationTimestamp": _now()} | ({"namespace": space} if kind.namespaced else {})
            made = {**body, "apiVersion": kind.version, "kind": kind.kind, "metadata": meta}
            return self._put("ADDED", kind, space, name, made)

    def merge(self, user: User, kind: Kind, space: str, name: str, change: Object) -> Object:
        with self.changed:
            before = self._of(kind.resource, space, name)
            after = _merged(before, change)
            if after.get("roleRef") != before.get("roleRef"):
                raise Failure(422, "Invalid", f'{kind.kind} "{name}" is invalid: roleRef: cannot change roleRef')
            after["metadata"] |= {"uid": before["metadata"]["uid"], "name": name}
            self._guard(user, kind, space, after)
            if before["metadata"].get("deletionTimestamp") and not after["metadata"].get("finalizers"):
                return self._drop(kind, space, name)
            return self._put("MODIFIED", kind, space, name, after)

    def delete(self, kind: Kind, space: str, name: str) -> Object:
        with self.changed:
            found = self._of(kind.resource, space, name)
            if found["metadata"].get("finalizers"):
                dying = {**found, "metadata": {**found["metadata"], "deletionTimestamp": _now()}}
                return self._put("MODIFIED", kind, space, name, dying)
            return self._drop(kind, space, name)

    def _of(self, resource: str, space: str, name: str) -> Object:
        for key, found in self.store.items():
            if key[1:] == (resource, space, name):
                return found
        raise Failure(404, "NotFound", f'{resource} "{name}" not found')

    def _put(self, what: str, kind: Kind, space: str, name: str, made: Object) -> Object:
        self.version += 1
        made = {**made, "metadata": {**made["metadata"], "resourceVersion": str(self.version)}}
        self.store[(kind.group, kind.resource, space, name)] = made
        self.events.append((self.version, what, kind, made))
        self.changed.notify_all()
        return made

    def _drop(self, kind: Kind, space: str, name: str) -> Object:
        gone = self.store.pop((kind.group, kind.resource, space, name))
        self.version += 1
        self.events.append((self.version, "DELETED", kind, gone))
        self.changed.notify_all()
        return gone

    def _guard(self, user: User, kind: Kind, space: str, body: Object) -> None:
        """Nobody gives rights that they do not hold, but who may `bind` or `escalate`."""
        if kind.kind in ("RoleBinding", "ClusterRoleBinding"):
            allowed = self.rbac.may_bind(user, body["roleRef"], space)
        elif kind.kind in ("Role", "ClusterRole"):
            ask = Ask(
                verb="escalate", group=GROUP, resource=kind.resource, namespace=space, name=body["metadata"]["name"]
            )
            allowed = self.rbac.allows(user, ask) or self.rbac.covers(user, body.get("rules") or [], space)
        else:
            return
        if not allowed:
            raise Failure(
                403,
                "Forbidden",
                f'{kind.resource}.{GROUP} "{body["metadata"]["name"]}" is forbidden: user "{user.name}" is attempting to '
                "grant RBAC permissions not currently held",
            )

    # Requests

    def answer(self, user: User, method: str, path: str, query: Mapping[str, str], body: Object) -> tuple[int, Object]:
        """Everything but a watch."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        self.seen.append(f"{method} {path}")
        if path == "/.well-known/openid-configuration":
            self.require(user, Ask(verb="get", path=path))
            return 200, {"issuer": ISSUER, "jwks_uri": f"{self.url}/openid/v1/jwks"}
        if (found := discovery(parts)) is not None:
            self.require(user, Ask(verb="get", path=path))
            return 200, found
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1] if len(parts) > 1 else "", parts[3:])
        if group in REVIEWS and rest and rest[0] in REVIEWS[group] and method == "POST":
            self.require(user, Ask(verb="create", group=group, resource=rest[0]))
            return 201, self._review(user, rest[0], body)
        kind, space, name, subresource = self.target(group, rest)
        ask = Ask(
            verb=_verb(method, name, query),
            group=group,
            resource=f"{kind.resource}/{subresource}" if subresource else kind.resource,
            namespace=space,
            name=name,
        )
        self.require(user, ask)
        self._spend(method)
        if subresource == "token" and kind.kind == "ServiceAccount" and method == "POST":
            return 201, self._token_request(space, name, body)
        if subresource:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        if method == "POST":
            return 201, self.create(user, kind, space, body)
        if method == "PATCH":
            return 200, self.merge(user, kind, space, name, body)
        if method == "DELETE":
            return 200, self.delete(kind, space, name)
        with self.changed:
            return 200, self._of(kind.resource, space, name) if name else self._list(kind, space, query)

    def target(self, group: str, rest: list[str]) -> tuple[Kind, str, str, str]:
        """Kind, namespace, name and subresource that a path names."""
        space = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            space, rest = rest[1], rest[2:]
        for kind in KINDS:
            if rest and (kind.group, kind.resource) == (group, rest[0]) and (not space or kind.namespaced):
                name, subresource, *_ = *rest[1:], "", ""
                return kind, space, name, subresource
        raise Failure(404, "NotFound", "the server could not find the requested resource")

    def require(self, user: User, ask: Ask) -> None:
        if not self.rbac.allows(user, ask):
            where = f' in the namespace "{ask.namespace}"' if ask.namespace else " at the cluster scope"
            what = f'path "{ask.path}"' if ask.path else f'resource "{ask.resource}" in API group "{ask.group}"{where}'
            raise Failure(403, "Forbidden", f'{ask.resource} is forbidden: User "{user.name}" cannot {ask.verb} {what}')

    def _spend(self, method: str) -> None:
        with self.changed:
            if method != "GET" and self.budget is not None:
                if not self.budget:
                    raise Failure(503, "ServiceUnavailable", "the budget is spent")
                self.budget -= 1

    def _list(self, kind: Kind, space: str, query: Mapping[str, str]) -> Object:
        if self.fails:
            code = self.fails.pop(0)
            raise Failure(code, "TooManyRequests" if code == 429 else "InternalError", "not now")
        if self.forgets and query.get("continue"):
            self.forgets -= 1
            raise Failure(410, "Expired", "The provided continue parameter is too old")
        found = self.selected(kind, space, query.get("labelSelector", ""))
        begin = int(base64.b64decode(query["continue"])) if query.get("continue") else 0
        limit = min(int(query.get("limit") or 0) or len(found), self.page or len(found))
        more = base64.b64encode(str(begin + limit).encode()).decode() if begin + limit < len(found) else ""
        meta = {"resourceVersion": str(self.version), **({"continue": more} if more else {})}
        items = found[begin : begin + limit]
        if query.get("as") == "Table" and kind.kind == "Secret":
            return {**_table(items), "metadata": meta}
        return {"kind": f"{kind.kind}List", "apiVersion": kind.version, "metadata": meta, "items": items}

    def selected(self, kind: Kind, space: str, selector: str) -> list[Object]:
        """Of one namespace, or of all."""
        wanted = dict(part.split("=", 1) for part in selector.replace("==", "=").split(",") if part)
        return [
            one
            for key, one in sorted(self.store.items())
            if key[:2] == (kind.group, kind.resource) and (not space or key[2] == space) and _labelled(one, wanted)
        ]

    def _token_request(self, space: str, name: str, body: Object) -> Object:
        with self.changed:
            self._of("serviceaccounts", space, name)
            spec = body.get("spec") or {}
            seconds = int(spec.get("expirationSeconds") or 3600)
            if seconds < _LEAST_SECONDS:
                raise Failure(
                    422, "Invalid", f"spec.expirationSeconds: Invalid value: {seconds}: may not specify a duration less than 10 minutes"
                )  # fmt: skip
            holder, reference = None, spec.get("boundObjectRef")
            if reference and self.binds_tokens:
                if reference["kind"] != "Secret":
                    raise Failure(
                        400,
                        "BadRequest",
                        f"cannot bind token for serviceaccount {name} to object type {reference['kind']}",
                    )
                holder = self._of("secrets", space, reference["name"])
                if reference.get("uid", holder["metadata"]["uid"]) != holder["metadata"]["uid"]:
                    raise Failure(409, "Conflict", "the UID in the bound object reference does not match")
            return {**body, "status": self.token_for(name, space, seconds, holder)}

    def _review(self, user: User, resource: str, body: Object) -> Object:
        if resource == "selfsubjectreviews":
            return {**body, "status": {"userInfo": _info(user)}}
        if resource == "selfsubjectaccessreviews":
            asked = body["spec"].get("resourceAttributes") or {}
            path = (body["spec"].get("nonResourceAttributes") or {}).get("path", "")
            sub = f"/{asked['subresource']}" if asked.get("subresource") else ""
            ask = Ask(
                verb=asked.get("verb") or (body["spec"].get("nonResourceAttributes") or {}).get("verb", ""),
                group=asked.get("group", ""),
                resource=asked.get("resource", "") + sub,
                namespace=asked.get("namespace", ""),
                name=asked.get("name", ""),
                path=path,
            )
            return {**body, "status": {"allowed": self.rbac.allows(user, ask)}}
        shown = self.user_of(body["spec"]["token"])
        return {**body, "status": {"authenticated": shown is not None} | ({"user": _info(shown)} if shown else {})}


_MASTER = User(name="kubernetes-admin", groups=("system:masters", "system:authenticated"))


@contextmanager
def kubernetes_api() -> Iterator[KubernetesApi]:
    """An API server with the built-in roles, on a port of its own, with a certificate authority of its own."""
    folder = Path(tempfile.mkdtemp(prefix="remit-kube-", dir="/tmp"))
    api = KubernetesApi(folder)
    _certify(folder)
    api.apply(BOOTSTRAP)
    api.namespace("default", "kube-system")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = Server(api, context)
    api.server = server
    api.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        api.stop()
        thread.join()
        shutil.rmtree(folder, ignore_errors=True)


def _table(items: list[Object]) -> Object:
    """As printers of the real server make it: columns, and of each object its metadata alone."""
    columns = [{"name": name, "type": "string", "format": "", "description": "", "priority": 0}
               for name in ("Name", "Type", "Data", "Age")]  # fmt: skip
    rows = [
        {
            "cells": [
                one["metadata"]["name"],
                one.get("type", "Opaque"),
                str(len(one.get("data") or ())),
                one["metadata"]["creationTimestamp"],
            ],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": one["metadata"],
            },
        }
        for one in items
    ]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns, "rows": rows}


def _certify(folder: Path) -> None:
    authority = certificate(
        issuer=None, name="kubernetes", ca=True, key_usage=usage("key_cert_sign", "crl_sign"), extended=None
    )
    names = [x509.IPAddress(ip_address("127.0.0.1"))]
    leaf = certificate(issuer=authority, name="kube-apiserver", names=names, key_usage=usage("digital_signature"))
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "server.pem").write_bytes(leaf.pem)
    (folder / "server.key").write_bytes(leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method == "GET":
        return "get" if name else "list"
    return {"POST": "create", "PATCH": "patch", "DELETE": "delete" if name else "deletecollection"}[method]


def _merged(before: Any, change: Any) -> Any:
    """RFC 7396."""
    if not isinstance(change, dict):
        return change
    after = dict(before) if isinstance(before, dict) else {}
    for key, value in change.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = _merged(after.get(key), value)
    return after


def _labelled(one: Object, wanted: Mapping[str, str]) -> bool:
    labels = one["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _long_dying(found: Object) -> bool:
    """Marked for deletion for more than a minute: until then its tokens are good, as in the real one."""
    at = found["metadata"].get("deletionTimestamp")
    return bool(at) and datetime.fromisoformat(at) < datetime.now(UTC) - timedelta(seconds=60)


def _info(user: User) -> Object:
    return {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": dict(user.extra)}


def _uid() -> str:
    raw = secrets.token_hex(16)
    return "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
