"""Java key stores as `keytool` makes them: what is in them without a password, and which passwords everybody knows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from remit.inventory.connectors.files.testing import credentials, read, rules, skips

ALIAS = ("-alias", "shop", "-dname", "CN=shop", "-keyalg", "EC", "-validity", "30")


def store(folder: Path, password: str, *, kind: str, suffix: str) -> bytes:
    tool = shutil.which("keytool")
    if tool is None:
        pytest.skip("keytool: not installed")
    path = folder / f"store{suffix}"
    subprocess.run(
        [tool, "-genkeypair", *ALIAS, "-storetype", kind, "-keystore", path, "-storepass", password, "-keypass", password],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return path.read_bytes()


@pytest.mark.parametrize(("kind", "suffix", "reader"), [("JKS", ".jks", "java-keystore"), ("PKCS12", ".p12", "pkcs12")])
def test_a_store_under_a_password_that_everybody_knows(tmp_path: Path, kind: str, suffix: str, reader: str) -> None:
    facts = read(reader, f"store{suffix}", store(tmp_path, "changeit", kind=kind, suffix=suffix))
    kinds = {(fact.kind.value, fact.exposed) for fact in credentials(facts)}
    assert (
        kinds == {("private-key", True), ("certificate", False)}
        and len({f.fingerprint for f in credentials(facts)}) == 1
    )
    assert "files.unprotected-keystore" in rules(facts)


def test_a_sealed_java_store_still_tells_which_key_it_holds(tmp_path: Path) -> None:
    facts = read("java-keystore", "store.jks", store(tmp_path, "quite-unknown-7", kind="JKS", suffix=".jks"))
    key, certificate = credentials(facts)
    assert key.attributes["encrypted"] is True and not key.exposed and key.fingerprint == certificate.fingerprint
    assert "files.unprotected-keystore" not in rules(facts)


def test_a_sealed_pkcs12_store_is_recorded_as_sealed(tmp_path: Path) -> None:
    facts = read("pkcs12", "store.p12", store(tmp_path, "quite-unknown-7", kind="PKCS12", suffix=".p12"))
    assert skips(facts) == {"encrypted"} and [fact.attributes["encrypted"] for fact in credentials(facts)] == [True]


def test_a_store_that_ends_early_is_malformed(tmp_path: Path) -> None:
    data = store(tmp_path, "changeit", kind="JKS", suffix=".jks")
    assert "malformed" in skips(read("java-keystore", "store.jks", data[: len(data) // 2]))
