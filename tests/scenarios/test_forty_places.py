"""Forty kinds of places where secrets lie: one value each, made as the test runs, and every one is found.

The values are random and of no known format, so that only the place tells that they are secrets; where the format
itself is the place (a key, a token in a log), a value of that format is made.
"""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import random
import secrets
import sqlite3
import string
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from remit.inventory.connectors.files.connector import make
from remit.inventory.connectors.files.keys import public_part
from remit.inventory.connectors.files.testing import SCAN, fingerprint
from remit.inventory.model import CredentialFact, Skipped

Content: TypeAlias = str | bytes
Plant: TypeAlias = Callable[[str], Mapping[str, Content]]


def value() -> str:
    """A password as people's password managers make them."""
    letters = string.ascii_letters + string.digits
    made = "".join(secrets.choice(letters) for _ in range(18))
    return made + random.choice("AbCd") + random.choice("0123456789") + random.choice("xyzw")


def zipped(name: str, content: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def image(v: str) -> bytes:
    layer = tarred({"etc/app.env": f"DB_PASSWORD={v}\n".encode()})
    manifest = json.dumps([{"Config": "c.json", "Layers": ["l/layer.tar"]}]).encode()
    return tarred({"manifest.json": manifest, "l/layer.tar": layer, "c.json": b"{}"})


def database(v: str) -> bytes:
    made = sqlite3.connect(":memory:")
    made.execute("create table settings (name text, smtp_password text)")
    made.execute("insert into settings values ('mail', ?)", (v,))
    made.commit()
    data = made.serialize()
    made.close()
    return data


def bytecode(v: str) -> bytes:
    import importlib.util

    code = compile(f'DB_PASSWORD = "{v}"\n', "settings.py", "exec")
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def docx(v: str) -> bytes:
    return zipped("word/document.xml", f"<w:document><w:p><w:r><w:t>The password: {v}</w:t></w:r></w:p></w:document>")


def notebook(v: str) -> str:
    return json.dumps(
        {
            "cells": [{"cell_type": "code", "source": [f'api_key = "{v}"\n'], "outputs": []}],
            "nbformat": 4,
            "metadata": {},
        }
    )


def har(v: str) -> str:
    request = {"method": "GET", "url": "https://api.acme.com/", "headers": [{"name": "X-Api-Key", "value": v}]}
    return json.dumps(
        {"log": {"version": "1.2", "entries": [{"request": request, "response": {"content": {"text": ""}}}]}}
    )


def postman(v: str) -> str:
    auth = {"type": "bearer", "bearer": [{"key": "token", "value": v, "type": "string"}]}
    return json.dumps({"info": {"name": "acme"}, "item": [], "auth": auth})


def chat(v: str) -> str:
    return json.dumps([{"type": "message", "user": "U1", "text": f"the db password is {v} please rotate", "ts": "1"}])


def terraform(v: str) -> str:
    resource = {
        "type": "aws_db_instance",
        "name": "main",
        "instances": [{"attributes": {"username": "app", "password": v}}],
    }
    return json.dumps({"version": 4, "terraform_version": "1.9.0", "resources": [resource]}, indent=2)


def b64(v: str) -> str:
    return base64.b64encode(v.encode()).decode()


PLACES: dict[str, Plant] = {
    ".netrc": lambda v: {"home/.netrc": f"machine api.acme.com\n  login bot\n  password {v}\n"},
    "concatenation": lambda v: {"app.py": f'password = "{v[:9]}" + "{v[9:]}"\n'},
    "docx": lambda v: {"notes.docx": docx(v)},
    "UTF-16": lambda v: {"settings.ps1": f'$password = "{v}"\r\n'.encode("utf-16")},
    "docker auth": lambda v: {"ci/docker.json": json.dumps({"auths": {"ghcr.io": {"auth": b64(f"bot:{v}")}}})},
    "ini": lambda v: {"app.ini": f"[database]\nuser = app\npassword = {v}\n"},
    "ConfigMap": lambda v: {"cm.yaml": f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  app.properties: |\n    db.password={v}\n"},
    "URL encoding": lambda v: {"urls.txt": "https://api.acme.com/login?password=" + quote(v[:8] + "/" + v[8:], safe="") + "\n"},
    "hex encoding": lambda v: {"hex.conf": f"password_hex = {v.encode().hex()}\n"},
    "generic": lambda v: {"generic.txt": f"client_secret: {v}\n"},
    "compose DSN": lambda v: {"docker-compose.yml": f"services:\n  api:\n    image: a\n    environment:\n      DATABASE_URL: postgres://app:{v}@db.acme:5432/shop\n"},
    "SQLite": lambda v: {"app.db": database(v)},
    "XML": lambda v: {"app.xml": f"<config><database><password>{v}</password></database></config>\n"},
    "image tar": lambda v: {"image.tar": image(v)},
    "notebook": lambda v: {"a.ipynb": notebook(v)},
    "shell history": lambda v: {"home/.bash_history": f"ls\nmysql -u root -p{v} -h db.acme shop\ncd\n"},
    "Kubernetes Secret": lambda v: {"secret.yaml": f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  password: {b64(v)}\n"},
    "Terraform state": lambda v: {"terraform.tfstate": terraform(v)},
    "CI definition": lambda v: {".github/workflows/ci.yml": f"on: push\nenv:\n  DEPLOY_TOKEN: {v}\njobs: {{}}\n"},
    "jar": lambda v: {"app.jar": zipped("application.properties", f"spring.datasource.password={v}\n")},
    "pyc": lambda v: {"settings.pyc": bytecode(v)},
    "log": lambda v: {"app.log": f'2026-01-01 12:00:00 INFO GET /x headers={{"Authorization": "Bearer {v}"}} 200\n'},
    "chat export": lambda v: {"slack/general.json": chat(v)},
    "Dockerfile ENV": lambda v: {"Dockerfile": f"FROM debian\nENV DB_PASSWORD={v}\n"},
    "Dockerfile ARG": lambda v: {"b/Dockerfile": f"FROM debian\nARG NPM_TOKEN={v}\n"},
    ".pgpass": lambda v: {"home/.pgpass": f"db.acme:5432:shop:app:{v}\n"},
    ".my.cnf": lambda v: {"home/.my.cnf": f"[client]\nuser=app\npassword={v}\n"},
    ".npmrc": lambda v: {"home/.npmrc": f"//npm.acme.com/:_authToken={v}\n"},
    ".pypirc": lambda v: {"home/.pypirc": f"[pypi]\nusername = bot\npassword = {v}\n"},
    "Maven settings": lambda v: {"settings.xml": f"<settings><servers><server><id>a</id><username>b</username><password>{v}</password></server></servers></settings>"},
    "Gradle properties": lambda v: {"gradle.properties": f"signing.password={v}\n"},
    "wp-config.php": lambda v: {"wp-config.php": f"<?php\ndefine( 'DB_PASSWORD', '{v}' );\n"},
    "web.config": lambda v: {"web.config": f'<configuration><connectionStrings><add name="a" connectionString="Server=sql.acme;User Id=app;Password={v};" /></connectionStrings></configuration>'},
    "Postman collection": lambda v: {"a.postman_collection.json": postman(v)},
    "HAR": lambda v: {"a.har": har(v)},
    "curl in README": lambda v: {"README.md": f"Try it:\n\n    curl -u admin:{v} https://api.acme.com/v1/things\n"},
    "Ansible variables": lambda v: {"group_vars/all.yml": f"mysql_root_password: {v}\n"},
    "systemd Environment": lambda v: {"etc/api.service": f'[Service]\nExecStart=/x\nEnvironment="API_TOKEN={v}"\n'},
    "crontab": lambda v: {"etc/crontab": f"0 3 * * * root PGPASSWORD={v} pg_dump -h db.acme shop > /b\n"},
    "JSON within JSON": lambda v: {"nested.json": json.dumps({"config": json.dumps({"db": {"password": v}})})},
    "base64 twice": lambda v: {"twice.env": f"SETTINGS={b64(b64(json.dumps({'password': v})))}\n"},
}  # fmt: skip


@dataclass
class Garden:
    """The tree, and what must be found in it."""

    root: Path
    wanted: dict[str, str]
    """Place → fingerprint."""


def git(root: Path, *words: str) -> None:
    command = [
        "git",
        "-C",
        str(root),
        "-c",
        "user.email=c@acme.com",
        "-c",
        "user.name=C",
        "-c",
        "core.hooksPath=/dev/null",
        *words,
    ]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "HOME": str(root)})


def plant(root: Path, files: Mapping[str, Content]) -> None:
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def plant_keys(root: Path, wanted: dict[str, str]) -> None:
    for place, name in (("PKCS#8 DER", "server.bin"), ("PKCS#12", "store.dat"), ("PEM in one line", "key.json")):
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        if place == "PKCS#12":
            content = pkcs12.serialize_key_and_certificates(b"a", key, None, None, plain)
        elif place == "PKCS#8 DER":
            content = key.private_bytes(serialization.Encoding.DER, form, plain)
        else:
            content = json.dumps({"key": key.private_bytes(serialization.Encoding.PEM, form, plain).decode()}).encode()
        plant(root, {name: content})
        wanted[place] = public_part(key.public_key()).fingerprint


def plant_history(root: Path, wanted: dict[str, str]) -> None:
    """A deleted file, an amended commit, a stash, a commit message, a tag message."""

    def made(place: str) -> str:
        v = value()
        wanted[place] = fingerprint(v.encode())
        return v

    root.mkdir()
    git(root, "init", "-q")
    plant(root, {"a.txt": "hello\n", "gone.env": f"DB_PASSWORD={made('deleted file')}\n"})
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    git(root, "rm", "-q", "gone.env")
    git(root, "commit", "-qm", f"Rotate\n\nold one was password={made('commit message')}")
    plant(root, {"b.env": f"API_TOKEN={made('amended commit')}\n"})
    git(root, "add", "-A")
    git(root, "commit", "-qm", "oops")
    git(root, "rm", "-q", "--cached", "b.env")
    (root / "b.env").unlink()
    git(root, "commit", "-q", "--amend", "--allow-empty", "-m", "nothing")
    git(root, "tag", "-a", "v1", "-m", f"release, deployed with token: {made('tag message')}")
    plant(root, {"a.txt": f"hello\nsecret_key = {made('stash')}\n"})
    git(root, "stash", "-q")


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Garden:
    root = tmp_path_factory.mktemp("garden")
    wanted: dict[str, str] = {}
    for number, (place, make_files) in enumerate(PLACES.items()):
        v = value()
        plant(root / f"p{number:02d}", make_files(v))
        kept = v[:8] + "/" + v[8:] if place == "URL encoding" else v
        wanted[place] = fingerprint(kept.encode())
    plant_keys(root / "keys", wanted)
    plant_history(root / "repository", wanted)
    return Garden(root, wanted)


@pytest.fixture(scope="module")
def found(garden: Garden) -> set[str]:
    connector = make(str(garden.root), {}, "")
    connector.open()
    seen: set[str] = set()
    for raw in connector.fetch(SCAN):
        if isinstance(raw, Skipped):
            continue
        for fact in connector.translate(raw, SCAN):
            if isinstance(fact, CredentialFact):
                seen |= {fact.fingerprint, str(fact.attributes.get("secret_fingerprint", ""))}
    print(
        "\n".join(
            f"{'found  ' if each in seen else 'MISSING'} {place}" for place, each in sorted(garden.wanted.items())
        )
    )
    return seen


MORE = (
    "PKCS#8 DER", "PKCS#12", "PEM in one line",
    "deleted file", "commit message", "amended commit", "tag message", "stash",
)  # fmt: skip


@pytest.mark.parametrize("place", [*PLACES, *MORE])
def test_it_is_found(place: str, garden: Garden, found: set[str]) -> None:
    assert garden.wanted[place] in found


def test_nothing_of_a_value_is_in_what_is_told(garden: Garden) -> None:
    v = value()
    plant(garden.root / "again", {"x.env": f"DB_PASSWORD={v}\nURL=postgres://{v}:{v}@db/x\n"})
    connector = make(str(garden.root / "again"), {}, "")
    connector.open()
    raws = list(connector.fetch(SCAN))
    shown = [fact for raw in raws if not isinstance(raw, Skipped) for fact in connector.translate(raw, SCAN)]
    assert shown and v not in repr(shown)
