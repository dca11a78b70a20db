"""Proves a machine by its TPM, through the programs of tpm2-tools.

A new attestation key is made for each proof, in the endorsement hierarchy; nothing is left in the TPM. Without a
resource manager (`/dev/tpmrm0`, tpm2-abrmd) the TPM is used alone: what others had loaded is flushed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable
from remit.trust.attestors.clients.questions import (
    encoded,
    octets_of,
    read_file,
    text_of,
    trust_domain_of,
)
from remit.trust.attestors.tpm import KIND, Registers, qualifier
from remit.trust.attestors.tpm_structures import Attribute, parse_public

_NV_CERTIFICATE = {2048: "0x01c00002", 256: "0x01c0000a", 384: "0x01c00016", 521: "0x01c00018", 3072: "0x01c0001c"}
"""Where the certificate of an endorsement key of this size lies (TCG EK Credential Profile 2.5 §2.2.1.4)."""
_SIGNS = {"rsa": "rsassa", "ecc": "ecdsa"}
_TIMEOUT = timedelta(seconds=60)
_BLOB_HEADER = bytes.fromhex("badcc0de00000001")


class TpmProver:
    """`tcti` names the TPM as tpm2-tools do (default: theirs); `algorithm` is `rsa` or `ecc` (default `rsa`).

    `ek_certificate` is a DER or PEM file, for a TPM that has none inside; `ek_handle` a persistent endorsement key.
    """

    id = KIND

    def __init__(
        self,
        *,
        tcti: str = "",
        algorithm: str = "",
        ek_certificate: str = "",
        ek_handle: str = "",
        trust_domain: str = "",
    ) -> None:
        self._algorithm = algorithm or "rsa"
        if self._algorithm not in _SIGNS:
            raise Misconfigured("trust.prover.option", "the TPM's `algorithm` is `rsa` or `ecc`", next_step="name one")
        self._environment = {**os.environ, **({"TPM2TOOLS_TCTI": tcti} if tcti else {})}
        self._ek_certificate = ek_certificate
        self._ek_handle = ek_handle
        self._trust_domain = trust_domain
        self._folder: Path | None = None
        self._removal: Callable[[], object] | None = None
        self._by_password = False

    async def payload(self, audience: str) -> Mapping[str, Json]:
        self._forget()
        self._folder = Path(tempfile.mkdtemp(prefix="remit-tpm-"))
        # A proof that is refused at once is never answered.
        self._removal = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        ek, ek_public = await self._endorsement_key()
        await self._flush()
        endorsement = parse_public(ek_public)
        # Keys of the high range are used by their (empty) password, those of the low range by policy alone.
        self._by_password = bool(endorsement.attributes & Attribute.USER_WITH_AUTH)
        await self._run(
            "tpm2_createak", "-C", ek, "-c", "ak.ctx", "-G", self._algorithm, "-g", "sha256",
            "-s", _SIGNS[self._algorithm], "-u", "ak.pub",
        )  # fmt: skip
        await self._flush()
        found: dict[str, Json] = {"ek": encoded(ek_public), "ak": encoded(self._made("ak.pub"))}
        certificate = await self._certificate(endorsement.key.key_size)
        if certificate:
            found["ek_certificate"] = encoded(certificate)
        return found

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        if self._folder is None:
            raise Rejected("trust.prover.question", "a question came before the proof that it is about")
        domain = trust_domain_of(question, self._trust_domain)
        registers = _registers(text_of(question, "pcrs"))
        blob = _BLOB_HEADER + octets_of(question, "credential") + octets_of(question, "secret")
        try:
            secret = await self._open(blob)
            over = qualifier(domain, octets_of(question, "nonce"), secret)
            return {"secret": encoded(secret), **await self._quote(registers, over)}
        finally:
            # A command that fails leaves loaded what it had loaded.
            with contextlib.suppress(RemitError):
                await self._flush()
            self._forget()

    async def _endorsement_key(self) -> tuple[str, bytes]:
        """Its context or handle, and its public area."""
        if self._ek_handle:
            await self._run("tpm2_readpublic", "-c", self._ek_handle, "-f", "tss", "-o", "ek.pub")
            return self._ek_handle, self._made("ek.pub")
        await self._run("tpm2_createek", "-c", "ek.ctx", "-G", self._algorithm, "-u", "ek.pub")
        return "ek.ctx", self._made("ek.pub")

    async def _certificate(self, key_size: int) -> bytes:
        """DER; nothing from a TPM that has none inside and for which no file was named."""
        if self._ek_certificate:
            return _der(await asyncio.to_thread(read_file, self._ek_certificate, "endorsement key's certificate"))
        try:
            await self._run("tpm2_nvread", _NV_CERTIFICATE.get(key_size, "0x01c00002"), "-C", "o", "-o", "ek.crt")
        except Unavailable:
            return b""
        return _der(self._made("ek.crt"))

    async def _open(self, blob: bytes) -> bytes:
        """TPM2_ActivateCredential, authorised by the endorsement hierarchy."""
        self._path("credential").write_bytes(blob)
        activate = ("tpm2_activatecredential", "-c", "ak.ctx", "-C", self._ek_handle or "ek.ctx", "-i", "credential")
        if self._by_password:
            await self._run(*activate, "-o", "secret")
        else:
            await self._run("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
            try:
                await self._run("tpm2_policysecret", "-S", "session.ctx", "-c", "e")
                await self._run(*activate, "-o", "secret", "-P", "session:session.ctx")
            finally:
                await self._run("tpm2_flushcontext", "session.ctx")
        await self._flush()
        return self._made("secret")

    async def _quote(self, registers: Registers, over: bytes) -> dict[str, Json]:
        await self._run(
            "tpm2_quote", "-c", "ak.ctx", "-l", str(registers), "-q", over.hex(), "-g", "sha256",
            "-m", "quote", "-s", "signature", "-o", "pcrs", "-F", "values",
        )  # fmt: skip
        await self._flush()
        size = {"sha256": 32, "sha384": 48, "sha512": 64}[registers.bank]
        values = self._made("pcrs")
        return {
            "quote": encoded(self._made("quote")),
            "signature": encoded(self._made("signature")),
            "pcrs": [encoded(values[at : at + size]) for at in range(0, len(values), size)],
        }

    async def _flush(self) -> None:
        """Free the few slots that a TPM has; through a resource manager it touches what is ours alone."""
        await self._run("tpm2_flushcontext", "-t")

    async def _run(self, *command: str) -> None:
        """Run one program. `Misconfigured` (`trust.prover.missing`), `Unavailable` (`trust.prover.tpm`)."""
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError:
            raise Misconfigured(
                "trust.prover.missing", f"`{command[0]}` is not installed", next_step="install tpm2-tools"
            ) from None
        try:
            _, said = await asyncio.wait_for(child.communicate(), _TIMEOUT.total_seconds())
        except TimeoutError:
            child.kill()
            await child.wait()
            said = b"no answer in time"
        if child.returncode != 0:
            raise Unavailable(
                "trust.prover.tpm",
                f"the TPM refuses `{command[0]}`: {_last_line(said)}",
                next_step="check that this user may use the TPM, and its TCTI",
                retry_after=timedelta(seconds=10),
            )

    def _made(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name

    def _forget(self) -> None:
        if self._removal is not None:
            self._removal()
        self._folder = self._removal = None


def _registers(text: str) -> Registers:
    try:
        return Registers.parse(text)
    except Misconfigured:
        raise Rejected("trust.prover.question", "the question names no registers that a TPM has") from None


def _der(certificate: bytes) -> bytes:
    """The certificate alone: an NV index is often longer than what it holds."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    if certificate.startswith(b"-----"):
        return x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    size = 4 + int.from_bytes(certificate[2:4], "big") if certificate[:2] == b"\x30\x82" else len(certificate)
    return certificate[:size]


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it does not say why"
