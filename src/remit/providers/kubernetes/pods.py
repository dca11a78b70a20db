"""Pods as their API server tells of them: when one has ended, and which images it runs.

A pod is named by its uid: another pod of the same name, made later, is another one. A list says how it is, a watch
from there on says what changes; when the server forgets what came between (410), the list is read again.

Spec: Kubernetes API concepts, "Efficient detection of changes"; Pod v1, `status.phase`, `status.containerStatuses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from remit.kernel.canonical import Json
from remit.kernel.errors import RemitError, Unavailable
from remit.providers.documents import Documents, require_address

_MAX_BYTES: Final = 4 * 1024 * 1024
_WATCH_SECONDS: Final = 120
_PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")
_OVER: Final = ("Succeeded", "Failed")
_KINDS: Final = ("containers", "initContainers", "ephemeralContainers")
"""Also those that somebody adds to a pod that runs: they read its tokens as well."""
_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class Pods:
    """The pods of one cluster; the token of `documents` needs `get`, `list` and `watch` on pods."""

    def __init__(self, server: str, *, documents: Documents) -> None:
        self._url = require_address(server).rstrip("/") + "/api/v1/namespaces/"
        self._documents = documents

    async def ended(self, namespace: str, pod: str, uid: str) -> str:
        """Wait until the pod has ended, however long; returns how. An API server that is away is asked again."""
        failures = 0
        while True:
            try:
                found, version = await self._list(namespace, pod)
                said = _end_of(found, uid) or await self._follow(namespace, pod, uid, version)
                if said:
                    return said
                failures = 0
            except RemitError:
                failures += 1
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES)) - 1] if failures else 0)

    async def images(self, namespace: str, pod: str, uid: str) -> frozenset[str]:
        """Digests of the images that its containers run; of one that does not run yet, what it was given.

        Raises `Unavailable` (`providers.document.…`, `providers.kubernetes.pod` for another pod or none).
        """
        found, _ = await self._list(namespace, pod)
        if found is None or _end_of(found, uid):
            raise Unavailable("providers.kubernetes.pod", "the API server knows no such pod that runs")
        spec, status = _part(found, "spec"), _part(found, "status")
        given = {each.get("name"): str(each.get("image", "")) for each in _each(spec, *_KINDS)}
        for each in _each(status, *_STATUSES):
            given[each.get("name")] = str(each.get("imageID") or given.get(each.get("name"), ""))
        return frozenset(match[0] if (match := _DIGEST.search(one)) else one[:200] for one in given.values())

    async def _list(self, namespace: str, pod: str) -> tuple[Mapping[str, Json] | None, str]:
        answer = (
            await self._documents.get(self._address(namespace, pod), max_bytes=_MAX_BYTES, depth=64, members=65_536)
        ).content
        items = answer.get("items")
        if answer.get("kind") != "PodList" or not isinstance(items, list):
            raise Unavailable("providers.kubernetes.pod", "the API server answered with something else than pods")
        found = next((one for one in items if isinstance(one, Mapping) and _name(one) == pod), None)
        return found, str(_part(answer, "metadata").get("resourceVersion", ""))

    async def _follow(self, namespace: str, pod: str, uid: str, version: str) -> str:
        """What a watch says; empty when it ended without a word."""
        url = self._address(namespace, pod) + (
            f"&watch=1&allowWatchBookmarks=true&timeoutSeconds={_WATCH_SECONDS}&resourceVersion={quote(version)}"
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_SECONDS + 10), aclosing(self._lines(url)) as lines:
                async for event in lines:
                    kind, pod_now = event.get("type"), _part(event, "object")
                    if kind == "ERROR":
                        return ""
                    if kind == "BOOKMARK" or _name(pod_now) != pod:
                        continue
                    if kind == "DELETED":
                        return "the pod was deleted"
                    if said := _end_of(pod_now, uid):
                        return said
        return ""

    def _lines(self, url: str) -> Any:
        return self._documents.lines(url, max_bytes=_MAX_BYTES)

    def _address(self, namespace: str, pod: str) -> str:
        selector = quote(f"metadata.name={pod}", safe="")
        return f"{self._url}{quote(namespace, safe='')}/pods?fieldSelector={selector}"


def _end_of(pod: Mapping[str, Json] | None, uid: str) -> str:
    if pod is None:
        return "the pod is gone"
    if _part(pod, "metadata").get("uid") != uid:
        return "another pod has its name now"
    phase = _part(pod, "status").get("phase")
    return f"the pod has ended: {phase}" if phase in _OVER else ""


def _name(pod: Mapping[str, Any]) -> object:
    return _part(pod, "metadata").get("name")


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Json]:
    value = of.get(name)
    return value if isinstance(value, Mapping) else {}


def _each(of: Mapping[str, Json], *names: str) -> list[Mapping[str, Any]]:
    listed = [value for name in names if isinstance(value := of.get(name), list)]
    return [one for each in listed for one in each if isinstance(one, Mapping)]
