"""A small company to try Remit on: a repository with leaked credentials, and the PostgreSQL that they open.

    .venv/bin/python docs/examples/harbour.py

Everything lies in /tmp/harbour (or the folder that you name), and is removed when you press Ctrl-C:

    shop/            the repository: a password in three files, keys, a certificate, a workflow, an MCP configuration
    url              of the database, for `remit target add --url`
    admin-password   of its administrator, for `--password-stdin`

The server is real, private to this machine, checks passwords by SCRAM-SHA-256, and runs without root.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from remit.providers.postgres.client import connected
from remit.providers.postgres.local_server import LocalServer, local_server
from remit.surface.cli.demo.shop import run

ENDS = {signal.SIGINT, signal.SIGTERM}
DATABASE = """
CREATE ROLE app_ro NOLOGIN; CREATE ROLE app_rw NOLOGIN; CREATE ROLE payroll_ro NOLOGIN;
COMMENT ON ROLE app_rw IS 'owner=payments';
GRANT payroll_ro TO app_rw;  -- for one migration, years ago
CREATE SCHEMA app; CREATE SCHEMA payroll;
CREATE TABLE app.orders (id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO app.orders SELECT n, n % 97 FROM generate_series(1, 1000) n;
CREATE TABLE payroll.salaries (person text NOT NULL, salary int NOT NULL);
GRANT USAGE ON SCHEMA app TO app_ro, app_rw;
GRANT SELECT ON app.orders TO app_ro; GRANT SELECT, INSERT, UPDATE ON app.orders TO app_rw;
GRANT USAGE ON SCHEMA payroll TO payroll_ro; GRANT SELECT ON payroll.salaries TO payroll_ro;
"""
POLICY = """\
// Who may lease what on the shop's database. Everything else is denied.

@id("owner-required")
@reason("nothing runs without somebody who answers for it")
forbid (principal, action, resource)
unless { principal.owner_active };

@id("shop-read")
@reason("an attested program of a registered task may read the shop's database")
permit (principal, action in Remit::Action::"lease", resource)
when { context.attested && context has task && context has role && context.role == "read" };
"""
CODEOWNERS = "*         @harbour/platform\n/.env     @harbour/data-team\n/jobs/    @harbour/data-team\n"
COMPOSE = """\
services:
  nightly-report:
    image: harbour/report:1.4
    environment:
      DATABASE_URL: "{dsn}"
"""
WORKFLOW = """\
name: release
on: {{push: {{tags: ["v*"]}}}}
permissions: {{id-token: write, contents: write}}
jobs:
  deploy:
    runs-on: ubuntu-latest
    environment: production
    steps:
      - uses: actions/checkout@v4
      - uses: aws-actions/configure-aws-credentials@v4
        with: {{role-to-assume: "arn:aws:iam::111122223333:role/deploy", aws-region: eu-central-1}}
      - run: ./deploy.sh
        env: {{NPM_TOKEN: {token}}}
"""
REPORT = """\
#!{python}
import asyncio, os, asyncpg

async def main():
    connection = await asyncpg.connect(os.environ.get("DATABASE_URL"), timeout=15)
    print(await connection.fetchval("SELECT count(*) || ' orders, read by ' || session_user FROM app.orders"))
    await connection.close()

asyncio.run(main())
"""


def put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def write_tree(tree: Path, dsn: str) -> None:
    """The repository, as years of work left it. Every secret in it is new and opens nothing but our own server."""
    servers = {
        "orders-db": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-postgres", dsn]},
        "tickets": {
            "type": "http",
            "url": "https://mcp.tickets.example/mcp",
            "headers": {"Authorization": f"Bearer {secrets.token_hex(20)}"},
        },
    }
    put(tree / ".env", f"# the nightly report\nDATABASE_URL={dsn}\nLOG_LEVEL=info\n", 0o600)
    put(tree / ".github/CODEOWNERS", CODEOWNERS)
    put(tree / ".github/workflows/release.yml", WORKFLOW.format(token=f"npm_{secrets.token_hex(18)}"))
    put(tree / ".mcp.json", json.dumps({"mcpServers": servers}, indent=2))
    put(tree / "docker-compose.yml", COMPOSE.format(dsn=dsn))
    put(tree / "jobs/nightly-report", REPORT.format(python=sys.executable), 0o755)
    put(tree / "policy/shop.cedar", POLICY)
    write_keys(tree)
    git = ["git", "-C", str(tree), "-c", "user.name=Mara", "-c", "user.email=mara@harbour.example"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A", "-f"], ["commit", "-q", "-m", "The nightly report"]):
        subprocess.run([*git, *arguments], check=True)


def write_keys(tree: Path) -> None:
    """An SSH key without a passphrase, the file that admits it, and a certificate that ends in twelve days."""
    openssh, raw = serialization.Encoding.OpenSSH, serialization.NoEncryption()
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(openssh, serialization.PublicFormat.OpenSSH).decode()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, raw).decode()
    put(tree / "ssh/id_deploy", private, 0o600)
    put(tree / "ssh/authorized_keys", f"{public} deploy@harbour\n", 0o600)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.harbour.example")])
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=353))
        .not_valid_after(now + timedelta(days=12))
        .sign(own, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    put(tree / "certs/api.pem", certificate.public_bytes(pem).decode())
    put(tree / "certs/api.key", own.private_bytes(pem, pkcs8, raw).decode(), 0o600)


async def fill(server: LocalServer, password: str) -> None:
    """The database: three groups, and a shared login that may do more than its job needs."""
    async with connected(server.address(), server.password) as connection:
        await connection.execute("CREATE DATABASE shop")
    async with connected(server.address(database="shop"), server.password) as connection:
        await connection.execute(DATABASE)
        await connection.execute(f"CREATE ROLE report_job LOGIN PASSWORD '{password}' IN ROLE app_ro, app_rw")


def main() -> None:
    """Make it, wait for Ctrl-C, remove it."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "harbour").absolute()
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        raise SystemExit(f"{root} exists already: remove it, or name another folder") from None
    static, admin = secrets.token_urlsafe(12), secrets.token_urlsafe(18)
    try:
        with local_server(password=admin) as server:
            run(fill(server, static))
            write_tree(root / "shop", f"postgres://report_job:{static}@127.0.0.1:{server.port}/shop")
            put(root / "url", f"postgres://{server.user}@127.0.0.1:{server.port}/shop\n")
            put(root / "admin-password", f"{admin}\n", 0o600)
            print(f"PostgreSQL {server.major} on 127.0.0.1:{server.port}; {root}/shop; Ctrl-C ends it", flush=True)
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
            signal.sigwait(ENDS)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
