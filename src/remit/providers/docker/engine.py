"""Ask a Docker (or Podman) engine over its Unix socket; read the configurations in an image archive.

Spec: Docker Engine API 1.41 (`/version`, `/containers/json`, `/containers/{id}/json`); Docker Image Specification 1.2
(`manifest.json` of `docker save`); OCI Image Layout 1.0 (`index.json`).
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal
from urllib.parse import quote

import msgspec

from remit.kernel.errors import Denied, Misconfigured, Rejected, Unavailable

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_MEMBERS: Final = 200_000
MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
MAX_CONFIGS_BYTES: Final = 256 * 1024 * 1024
"""Of all configurations of one archive."""
MAX_ARCHIVE_BYTES: Final = 64 * 1024 * 1024 * 1024
"""Of one archive, unpacked."""
_BLOB: Final = re.compile(r"(?:blobs/sha256/)?[0-9a-f]{64}(?:\.json)?|manifest\.json|index\.json|repositories")


class Engine:
    """One engine, asked with GET alone."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def get(self, path: str) -> Any:
        """The answer to `path`; `Misconfigured` where the socket is closed to us, else `Unavailable` or `Denied`."""
        import httpx2

        try:
            transport = httpx2.HTTPTransport(uds=str(self._socket))
            with (
                httpx2.Client(transport=transport, timeout=20, trust_env=False) as client,
                client.stream("GET", f"http://docker{path}") as answer,
            ):
                read = bytearray()
                for chunk in answer.iter_bytes():
                    read += chunk
                    if len(read) > MAX_ANSWER_BYTES:
                        raise Rejected("providers.docker.too-large", "the engine's answer is larger than 64 MiB")
                status = int(answer.status_code)
        except (httpx2.HTTPError, OSError) as error:
            if "ermission" in str(error):
                raise Misconfigured(
                    "providers.docker.closed", "the engine's socket is closed to this account",
                    next_step="run as a member of its group: mind that this group is root",
                ) from None  # fmt: skip
            raise Unavailable(
                "providers.docker.down", "the engine does not answer", next_step="is it running? `docker info`"
            ) from None
        if status in (401, 403, 404, 409):
            raise Denied("providers.docker.refused", f"the engine answers with status {status}")
        if status != 200:
            raise Unavailable("providers.docker.down", f"the engine answers with status {status}")
        try:
            return msgspec.json.decode(bytes(read))
        except (msgspec.DecodeError, RecursionError):
            raise Rejected("providers.docker.strange", "the engine answers with no JSON") from None

    def inspect(self, container: str) -> Any:
        """Everything of one container."""
        return self.get(f"/containers/{quote(container, safe='')}/json")


def image_configs(archive: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(tag or digest, configuration) of each image of an archive; layers are not opened.

    Raises `Rejected` (`providers.docker.no-archive`) for a file that is none.
    """
    blobs: dict[str, Any] = {}
    held = 0
    try:
        # Plain or gzip: the other forms let an archive ask for gigabytes of memory before its first byte.
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode=_mode(raw)) as tar:
            for count, member in enumerate(tar):
                if count > MAX_MEMBERS or held > MAX_CONFIGS_BYTES:
                    break
                if member.offset_data + member.size > MAX_ARCHIVE_BYTES:
                    raise Rejected("providers.docker.no-archive", "the archive unpacks to more than 64 GiB")
                called = member.name.removeprefix("./")
                if member.isreg() and member.size <= MAX_CONFIG_BYTES and _BLOB.fullmatch(called):
                    file = tar.extractfile(member)
                    data = file.read(MAX_CONFIG_BYTES) if file else b""
                    if data[:1] in (b"{", b"["):
                        held += len(data)
                        blobs[called] = _json(data)
    except (tarfile.TarError, OSError, EOFError, ValueError):
        raise Rejected("providers.docker.no-archive", "the file is no image archive") from None
    listed = blobs.get("manifest.json")
    for image in listed if isinstance(listed, list) else ():
        config = blobs.get(str(image.get("Config", ""))) if isinstance(image, dict) else None
        if isinstance(config, dict):
            tags = image.get("RepoTags")
            yield str(tags[0] if isinstance(tags, list) and tags else image.get("Config"))[:400], config
    if "manifest.json" not in blobs:
        for called, blob in blobs.items():
            if isinstance(blob, dict) and isinstance(blob.get("config"), dict) and "rootfs" in blob:
                yield called.rpartition("/")[2][:12], blob


def _mode(raw: BinaryIO) -> Literal["r:gz", "r:"]:
    head = raw.read(2)
    raw.seek(0)
    return "r:gz" if head == b"\x1f\x8b" else "r:"


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
