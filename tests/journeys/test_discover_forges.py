"""A forge, a Terraform state, a cloud's export and a file of one's own give one joined inventory."""

from __future__ import annotations

import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from github_server import TOKEN, acme, forge_server
from installation import installation

TENANT, APP = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-0000-0000-0000-000000000001"


def test_one_inventory_of_a_forge_a_state_an_export_and_a_file() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    state = {"version": 4, "terraform_version": "1.9.0", "lineage": "0a1b2c3d-1111-2222-3333-444455556666", "resources": [
        {"mode": "managed", "type": "tls_private_key", "name": "k", "instances": [{"attributes": {"private_key_pem": pem}}]}]}  # fmt: skip
    principal = {
        "appId": APP,
        "id": "sp-1",
        "displayName": "deployer",
        "servicePrincipalType": "Application",
        "appOwnerOrganizationId": TENANT,
    }
    rows = {"system": "mainframe", "identities": [{"name": "BATCH01"}, {"name": 5}]}
    with installation() as made, forge_server(acme(line)) as forge:
        for called, content in (("t.tfstate", state), ("sp.json", [principal]), ("m.json", rows)):
            (made.home / called).write_text(json.dumps(content))
        made.cli(
            "discover",
            "github",
            "acme",
            "--set",
            f"endpoint={forge.url}",
            "--set",
            "forge=github.com",
            GITHUB_TOKEN=TOKEN,
        )
        made.cli("discover", "terraform", made.home / "t.tfstate")
        made.cli("discover", "azure", made.home / "sp.json", "--set", f"tenant={TENANT}")
        said = made.json("discover", "import", made.home / "m.json")
        assert said["skipped"] == 1 and "name" in said["skipped_sample"][0]["detail"]
        listed = json.dumps(made.json("ls"))
        assert all(each in listed for each in ("BATCH01", "deployer", "deploy key server of acme/shop"))
        again = made.json("discover", "terraform", made.home / "t.tfstate")
        assert again["credentials_new"] == 0 and TOKEN not in made.printed()
