"""A software TPM of one test's own: made, certified by its maker, served on a Unix socket, ended by its pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_PROGRAMS = ("swtpm", "swtpm_setup", "swtpm_localca", "certtool", "tpm2_createek", "tpm2_quote")
_CONFIG = {
    "localca.conf": "statedir = {0}/ca\nsigningkey = {0}/ca/signkey.pem\n"
    "issuercert = {0}/ca/issuercert.pem\ncertserial = {0}/ca/certserial\n",
    "localca.options": "--platform-manufacturer Remit\n--platform-version 1\n--platform-model Test\n",
    "setup.conf": "create_certs_tool = {1}\ncreate_certs_tool_config = {0}/localca.conf\n"
    "create_certs_tool_options = {0}/localca.options\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftTpm:
    """A TPM that answers at `tcti`; `maker` is the PEM of the CA certificates above its endorsement keys."""

    folder: Path
    tcti: str
    maker: bytes

    def run(self, *command: str) -> bytes:
        """Run one of tpm2-tools on it, in a folder of its own."""
        environment = {**os.environ, "TPM2TOOLS_TCTI": self.tcti}
        return subprocess.run(
            command, cwd=self.folder, env=environment, check=True, capture_output=True, timeout=60
        ).stdout


@contextmanager
def soft_tpm() -> Iterator[SoftTpm]:
    """A freshly manufactured TPM; skips the test by name where a program is missing."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{missing[0]}: not installed")
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="tpm-"))
    try:
        _manufacture(folder)
        with _served(folder) as tcti:
            names = ("issuercert.pem", "swtpm-localca-rootca-cert.pem")
            yield SoftTpm(folder=folder, tcti=tcti, maker=b"".join((folder / "ca" / n).read_bytes() for n in names))
    finally:
        shutil.rmtree(folder)


def _manufacture(folder: Path) -> None:
    for name in ("ca", "state"):
        (folder / name).mkdir()
    for name, text in _CONFIG.items():
        (folder / name).write_text(text.format(folder, shutil.which("swtpm_localca")))
    command = ["swtpm_setup", "--tpm2", "--tpmstate", "state", "--create-ek-cert", "--config", "setup.conf"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    socket = folder / "tpm.sock"
    child = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=state", "--flags", "not-need-init,startup-clear",
         "--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(500):
            if socket.exists():
                break
            assert child.poll() is None, "swtpm ended"
            time.sleep(0.01)
        yield f"swtpm:path={socket}"
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)
