"""Kubernetes: a service account of its own for each lease, bound to a role, and a token that falls with it.

All of a lease bears one name: its service account and a secret in the namespace of leases, and a binding in that of the
application. The token is bound to both account and secret; it rests in the secret, sealed by the lease's own secret.
The order of a revocation: the binding goes (nothing may be done any more) → the account and the secret go (the token is
nobody's) → look until none of them is left → the very token is refused, on the path where the broker's own is admitted.

Spec: Kubernetes API, TokenRequest (`boundObjectRef`), RoleBinding, SelfSubjectReview.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from remit.access.brokers.batch import every
from remit.access.brokers.kubernetes_client import kubeconfig
from remit.access.brokers.kubernetes_doctor import UNKNOWN_TOKEN, examine
from remit.access.brokers.kubernetes_settings import (
    BROKER,
    MANIFEST,
    RBAC,
    decode_options,
    decode_secret,
    needed,
    rbac_yaml,
)
from remit.access.brokers.kubernetes_token import bound_to, claims_of, seal, unseal
from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.brokers.refusals import not_mapped, not_open
from remit.access.model import LeftBehind, Minted, MintOrder, Proof, Proved, Revocation, RevokeOrder, Target, Unproved
from remit.kernel.clock import SystemClock, rfc3339
from remit.kernel.errors import Conflict, Denied, Rejected
from remit.providers.kubernetes.api import Api, Attempt

_T = TypeVar("_T")
_CLOCK = SystemClock()
_LEAST_SECONDS: Final = 600
"""The API server takes no shorter life of a token."""
_GONE_WITHIN = 8.0
_REFUSED_WITHIN = 13.0
"""An API server remembers admitted tokens for 10 seconds."""
_LOOK_AGAIN = 0.1
_AT_ONCE = 8
_REMEMBERED = 2000
_OURS: Final = {"app.kubernetes.io/managed-by": "remit"}
_STREAMS: Final = LeftBehind(what="streams that were open (watch, exec, port-forward)", fate="not seen")


class KubernetesBroker:
    """Mints, renews, revokes, proves and sweeps in one cluster."""

    def __init__(
        self,
        target: Target,
        secret: str,
        *,
        now: Callable[[], datetime] = _CLOCK.now,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = decode_options(target)
        self._token = decode_secret(secret)
        self._target = target
        self._now = now
        self._randomness = randomness
        self._api: Api | None = None
        # Tokens of accounts that are gone, until their refusal was seen.
        self._struck: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"KubernetesBroker({self._settings.url})"

    async def open(self) -> None:
        """Be known to the API server; `Unavailable`, or `Misconfigured` where it does not know our token."""
        await self.close()
        api = Api(self._settings.url, self._token, ca=self._settings.ca)
        try:
            await api.may(needed(self._settings)[0])
        except BaseException:
            await api.close()
            raise
        self._api = api

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Make account, secret and binding, have a token made that falls with them, and log in with it once."""
        instance_of([order.principal])
        role = self._settings.roles.get(order.role)
        if role is None:
            raise not_mapped(self._target, order.role, "clusterrole/NAME")
        api, space = self._opened, self._namespace(order.database)
        # A binding to a role that does not exist would begin to hold when somebody makes it.
        if await api.get(role.path(space)) is None:
            raise Rejected("access.kubernetes.role_missing", f"there is no `{order.role[:100]}` in `{space}`")
        account = await self._made(
            order, "serviceaccounts", {"kind": "ServiceAccount", "automountServiceAccountToken": False}
        )
        record = await self._made(order, "secrets", {"kind": "Secret", "type": "Opaque"})
        await self._bind(order, space, role.kind, role.name)
        sealed = _held(record) or await self._issue(order, str(_uid(account)), str(_uid(record)))
        token = unseal(sealed, order.secret, order.principal)
        if token is None:
            raise Conflict("access.kubernetes.taken", f"`{order.principal}` was minted with another secret")
        tried = await api.login(token)
        if not tried.admitted:
            raise Rejected("access.lease.login", f"the new credential does not work: {tried.words}")
        return Minted(principal=order.principal, settings=self._tell(order, space, token, sealed))

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """A token cannot be changed: returns those whose account still exists."""
        if not principals:
            return []
        existing = set(await self._names("serviceaccounts", instance_of(principals)))
        return [name for name in principals if name in existing]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them and prove each; those that could not be finished say `gone=False` and why."""
        if not orders:
            return []
        instance_of([order.principal for order in orders])
        gate, api = asyncio.Semaphore(_AT_ONCE), self._opened

        async def ended(order: RevokeOrder) -> _Work:
            async with gate:
                return await self._destroy(api, order)

        async def told(order: RevokeOrder, work: _Work) -> Revocation:
            async with gate:
                return await self._report(api, order, work)

        # No proof of one may delay the end of another.
        works = await every(ended(order) for order in orders)
        return await every(told(order, work) for order, work in zip(orders, works, strict=True))

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation of which anything is left: account, secret or binding."""
        found = set(await self._names("serviceaccounts", instance)) | set(await self._names("secrets", instance))
        for space in self._settings.namespaces:
            found |= set(await self._names("rolebindings", instance, space))
        return sorted(found)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        return await examine(self._api, self._settings, self._target.name)

    def install_script(self, instance: str) -> str:
        """The RBAC objects for exactly this target's roles and namespaces, for an administrator to apply."""
        settings = self._settings
        return rbac_yaml(settings.home, settings.namespaces, list(settings.roles.values()), self._target.user or BROKER)

    async def install(self, instance: str) -> Sequence[str]:
        """Refuses: who can give itself rights has them all."""
        raise Denied(
            "access.kubernetes.install",
            "the broker cannot give itself rights",
            next_step=f"let an administrator apply what `remit target install {self._target.name} --print` shows",
        )

    @property
    def _opened(self) -> Api:
        if self._api is None:
            raise not_open(self._target)
        return self._api

    def _namespace(self, asked: str) -> str:
        space = asked or self._settings.namespaces[0]
        if space not in self._settings.namespaces:
            raise Rejected(
                "access.kubernetes.namespace_unknown",
                f"the target `{self._target.name}` has no namespace `{space[:64]}`",
                next_step=f"ask for one of: {', '.join(self._settings.namespaces)}",
            )
        return space

    def _path(self, kind: str, principal: str = "", space: str = "") -> str:
        base = f"/apis/{RBAC}/v1" if kind == "rolebindings" else "/api/v1"
        path = f"{base}/namespaces/{space or self._settings.home}/{kind}"
        return f"{path}/{name_of(principal)}" if principal else path

    async def _names(self, kind: str, instance: str, space: str = "") -> list[str]:
        """Principals by label and by full name."""
        found = await self._opened.list(self._path(kind, space=space), selector=f"remit/instance={instance}")
        names = (str((one.get("metadata") or {}).get("name")) for one in found)
        return of_instance((name.replace("-", "_") for name in names), instance)

    async def _made(self, order: MintOrder, kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """An object of the lease, new or as an earlier attempt left it."""
        api, meta = self._opened, _meta(order)
        found = await api.create(self._path(kind), {"apiVersion": "v1", "metadata": meta, **content}) or await api.get(
            self._path(kind, order.principal)
        )
        if found is None or _labels(found).get("remit/principal") != order.principal or _uid(found) is None:
            raise Conflict("access.kubernetes.taken", f"`{name_of(order.principal)}` is there, and is not ours")
        return found

    async def _bind(self, order: MintOrder, space: str, kind: str, name: str) -> None:
        subject = {"kind": "ServiceAccount", "name": name_of(order.principal), "namespace": self._settings.home}
        reference = {"apiGroup": RBAC, "kind": kind, "name": name}
        body: dict[str, Any] = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": _meta(order)}
        body |= {"roleRef": reference, "subjects": [subject]}
        if await self._opened.create(self._path("rolebindings", space=space), body) is not None:
            return
        found = await self._opened.get(self._path("rolebindings", order.principal, space)) or {}
        if found.get("roleRef") != reference or len(found.get("subjects") or ()) != 1:
            raise Conflict("access.kubernetes.taken", f"`{name_of(order.principal)}` binds something else")

    async def _issue(self, order: MintOrder, account: str, record: str) -> str:
        """Have the token made, see that it falls with its objects, and let it rest sealed in the secret."""
        life = int(((order.until or order.expires) - self._now()).total_seconds())
        holder = {"apiVersion": "v1", "kind": "Secret", "name": name_of(order.principal), "uid": record}
        spec = {"expirationSeconds": max(life, _LEAST_SECONDS), "boundObjectRef": holder}
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self._opened.create(self._path("serviceaccounts", order.principal) + "/token", asked) or {}
        token = str((answer.get("status") or {}).get("token") or "")
        if not bound_to(claims_of(token), account, record):
            raise Rejected(
                "access.kubernetes.unbound",
                "the API server gave a token that does not fall with its account and secret",
                next_step="use Kubernetes 1.28 or later",
            )
        sealed = seal(token, order.secret, order.principal, self._randomness(12))
        held = base64.b64encode(sealed.encode()).decode()
        await self._opened.merge(self._path("secrets", order.principal), {"data": {"token": held}})
        return sealed

    def _tell(self, order: MintOrder, space: str, token: str, sealed: str) -> dict[str, str]:
        target, settings = self._target, self._settings
        expires = claims_of(token).get("exp")
        told = {"host": target.host, "port": str(target.port), "url": settings.url, "namespace": space}
        told |= {"user": order.principal, "account": f"{settings.home}/{name_of(order.principal)}", "sealed": sealed}
        told |= {"expires": str(expires)}
        told |= {"ca": settings.ca, "ca_data": self._opened.authorities} if settings.ca else {}
        return told

    async def _destroy(self, api: Api, order: RevokeOrder) -> _Work:
        name, work = order.principal, _Work(started=asyncio.get_running_loop().time())
        record = await api.get(self._path("secrets", name))
        token = unseal(_held(record or {}), order.secret, name)
        if token is not None:
            while len(self._struck) >= _REMEMBERED:
                self._struck.pop(next(iter(self._struck)))
            self._struck[name] = token
        paths = [self._path("rolebindings", name, space) for space in self._settings.namespaces]
        paths += [self._path("serviceaccounts", name), self._path("secrets", name)]
        for path in paths:
            await api.delete(path)
        until = asyncio.get_running_loop().time() + _GONE_WITHIN
        while left := [path for path in paths if await api.get(path) is not None]:
            if asyncio.get_running_loop().time() > until:
                work.stuck = f"`{left[0].rsplit('/', 2)[1]}` of it is held by a finalizer"
                return work
            await asyncio.sleep(_LOOK_AGAIN)
        return work

    async def _report(self, api: Api, order: RevokeOrder, work: _Work) -> Revocation:
        proof: Proof = Unproved(why=work.stuck) if work.stuck else await self._prove(api, order)
        if isinstance(proof, Proved):
            self._struck.pop(order.principal, None)
        return Revocation(
            principal=order.principal,
            gone=not work.stuck,
            sessions_ended=0,
            proof=proof,
            left_behind=(_STREAMS,),
            duration=timedelta(seconds=asyncio.get_running_loop().time() - work.started),
        )

    async def _prove(self, api: Api, order: RevokeOrder) -> Proof:
        token = self._struck.get(order.principal)
        tried = await self._refused(api, token or UNKNOWN_TOKEN)
        if tried.admitted:
            return Unproved(why="the server still admits the credential" if token else "the server admits anyone")
        control = await api.login()
        if not control.admitted:
            return Unproved(why=f"the control was refused too: {control.words}")
        words = tried.words if token else f"404 its account is not there; of an unknown token: {tried.words}"
        return Proved(refusal=words, control=f"login as {control.words}")

    async def _refused(self, api: Api, token: str) -> Attempt:
        """Try until it is refused, for as long as an API server may remember that it was good."""
        until = asyncio.get_running_loop().time() + _REFUSED_WITHIN
        while (tried := await api.login(token)).admitted and asyncio.get_running_loop().time() < until:
            if tried.words.startswith("system:serviceaccount:"):
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                break
        return tried


@dataclass(slots=True, kw_only=True)
class _Work:
    """What one revocation has found so far."""

    started: float
    stuck: str = field(default="")


def name_of(principal: str) -> str:
    """The principal as names in Kubernetes may be; the principal itself is in the label `remit/principal`."""
    return principal.replace("_", "-")


def _meta(order: MintOrder) -> dict[str, Any]:
    labels = {**_OURS, "remit/instance": instance_of([order.principal]), "remit/principal": order.principal}
    notes = {"remit/label": order.label, "remit/role": order.role}
    notes |= {"remit/until": rfc3339(order.until or order.expires)}
    return {"name": name_of(order.principal), "labels": labels, "annotations": notes}


def _uid(found: Mapping[str, Any]) -> str | None:
    return (found.get("metadata") or {}).get("uid")


def _labels(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return (found.get("metadata") or {}).get("labels") or {}


def _held(record: Mapping[str, Any]) -> str:
    """The sealed token in a secret; empty where it has none."""
    try:
        return base64.b64decode(str((record.get("data") or {}).get("token") or ""), validate=True).decode()
    except ValueError:
        return ""


class KubernetesBrokerFactory:
    """The plug-in."""

    id = "kubernetes"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> KubernetesBroker:
        """A broker for `target`; nothing is opened yet."""
        return KubernetesBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `kubernetes://[SERVICE-ACCOUNT@]HOST[:PORT]/NAMESPACE`; TLS is never left out."""
        where = read_location(
            url,
            schemes={"kubernetes": 6443},
            parameters=frozenset({"ca", "namespace"}),
            user=BROKER,
            write_as="kubernetes://HOST:PORT/NAMESPACE",
        )
        options = dict(where.options)
        space = options.pop("namespace", "")
        return replace(where, database=where.database or space, options=options)

    def present(self, credential: Credential) -> Presentation:
        """A kubeconfig, as kubectl and every client read it."""
        settings = credential.settings
        token = unseal(settings.get("sealed", ""), credential.secret, settings.get("user", "")) or ""
        name = f"{credential.target}-{credential.role}.kubeconfig"
        return Presentation(
            variables={"KUBE_HOST": settings.get("url", ""), "KUBE_NAMESPACE": settings.get("namespace", "")},
            secrets={"KUBE_TOKEN": token},
            files={name: kubeconfig(credential.target, settings, token)},
            pointers={"KUBECONFIG": name},
            stale=("KUBECONFIG", "KUBE_CONFIG_PATH", "KUBE_TOKEN", "KUBE_HOST", "KUBE_NAMESPACE", "HELM_KUBETOKEN"),
            withheld=True,
        )
