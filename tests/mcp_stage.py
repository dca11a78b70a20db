"""An agent, its tools on a real MCP server, and the gateway between them, beside an installation with two people."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import REMIT, ROOT, Installation, installation
from remit.surface.cli.person import PersonKey, signed_headers
from remit.surface.gateways.mcp.run import read_tools

SERVER = ROOT / "tests" / "mcp_mail_server.py"
AGENT = "spiffe://remit.local/agent/mailer"
POLICY = """
@id("tools-by-intent") @reason("an agent calls the tools of its task")
permit (principal, action == Remit::Action::"tool:call", resource)
when { context has intent && resource.known && resource.kind == "tool" };
"""
TOOLS = {
    "read_mail": ("read", "internal"),
    "search": ("read", "internal"),
    "read_payroll": ("read", "confidential"),
    "environment": ("read", "public"),
    "send_mail": ("external", "public"),
}
INTENT: dict[str, Any] = {
    "task": "answer-mail",
    "agent": AGENT,
    "purpose": "answer the question about an order",
    "instruction": "Read the mail 4711 and answer bob@example.com where the parcel is.",
    "inputs": {"reference": "REF-10"},
    "ceiling": "confidential",
    "tools": {
        "mail/read_mail": {"arguments": {"id": {"pattern": "[0-9]+"}}, "required": ["id"], "calls": 5},
        "mail/search": {"arguments": {"query": {"maxLength": 40}}},
        "mail/read_payroll": {},
        "mail/environment": {"arguments": {"name": {"type": "string"}}},
        "mail/send_mail": {
            "arguments": {
                "to": {"pattern": "[a-z]+@[a-z.]+"},
                "body": {"maxLength": 4000, "origins": ["any"]},
            },
            "required": ["to", "body"],
            "clearance": "internal",
        },
    },
    "budget": {"calls": 12, "bytes": 200_000, "seconds": 600},
    "seconds": 3600,
}
T = TypeVar("T")


@dataclass(slots=True)
class Mailroom:
    """The installation, and what is needed to start gateways."""

    made: Installation
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def outbox(self) -> Path:
        return self.made.root / "outbox"

    @property
    def mutation(self) -> Path:
        return self.made.root / "mutated"

    @property
    def command(self) -> tuple[str, ...]:
        """The server, as it is started."""
        return (sys.executable, str(SERVER), "--outbox", str(self.outbox), "--mutate", str(self.mutation))

    def types(self, person: str, *args: str | Path, code: int = 0) -> str:
        """What a command says to a person."""
        done = self.made.cli(*args, code=code, REMIT_PERSON_KEY=self.keys[person])
        return done.stdout + done.stderr

    def signed(self, person: str, method: str, path: str, body: Any) -> Any:
        """A request that a person signs, as the command line makes it."""
        key = PersonKey(**json.loads(Path(self.keys[person]).read_bytes()))
        raw = json.dumps(body).encode()
        about = self.made.admin.get("/api/v1/people/about")
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.made.data / "admin.sock"))
        connection.request(method, path, body=raw, headers=signed_headers(key, about["instance"], method, path, raw))
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, found
        return found

    def approve_tools(self, **classes: tuple[str, str]) -> None:
        """Ana approves tools as the server shows them now."""
        self._approve(asyncio.run(read_tools(self.command, {"PATH": os.environ["PATH"]})), classes or TOOLS)

    def approve_tools_at(self, url: str, bearer: str, **classes: tuple[str, str]) -> None:
        """The same of a server over HTTP."""
        self._approve(asyncio.run(read_tools((), {}, url=url, bearer=bearer)), classes)

    def _approve(self, shown: Mapping[str, tuple[str, Any]], classes: Mapping[str, tuple[str, str]]) -> None:
        for name, (kind, label) in classes.items():
            body = {"name": f"mail/{name}", "definition": shown[name][0], "kind": kind, "label": label}
            clearance = {"clearance": "internal"} if kind == "external" else {}
            self.signed("ana", "POST", "/api/v1/tools", {**body, **clearance})

    def clear(self) -> None:
        """End every intent: what a session of the agent has read taints what it asks for later."""
        for each in self.made.admin.get("/api/v1/intents"):
            self.made.admin.delete(f"/api/v1/intents/{each['id']}")

    def intend(self, approved: bool = True, **changes: Any) -> str:
        """Ana asks for an intent, Ben approves it; its id."""
        document = yaml.safe_dump({**INTENT, **changes})
        asked = self.signed("ana", "POST", "/api/v1/intents", {"document": document})
        if approved:
            self.signed("ben", "POST", f"/api/v1/intents/{asked['id']}/approve", {"digest": asked["digest"]})
        return str(asked["id"])

    def gateway(self, intent: str) -> tuple[list[str], dict[str, str]]:
        """The gateway's command line over stdio, and its environment."""
        command = [*REMIT, "gateway", "mcp", "--intent", intent, "--server", "mail", "--", *self.command]
        return command, self.made.env

    def agent(self, intent: str, script: Callable[[Any], Awaitable[T]], *, mode: str = "auto") -> T:
        """Run an agent's script with the official SDK's client behind a gateway of its own."""
        from mcp import Client, StdioServerParameters

        command, environment = self.gateway(intent)

        async def play() -> T:
            parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment)
            async with Client(parameters, mode=mode, read_timeout_seconds=20) as client:
                return await script(client)

        return asyncio.run(play())

    def sent(self) -> list[dict[str, str]]:
        """Mails that went out."""
        return [json.loads(line) for line in self.outbox.read_text().splitlines()] if self.outbox.exists() else []

    def explained(self, decision: str) -> dict[str, Any]:
        """What `remit explain` says of it."""
        found: dict[str, Any] = self.made.json("explain", decision)
        return found


@contextmanager
def mailroom() -> Iterator[Mailroom]:
    """Ana and Ben, an agent that Ana owns, a policy that leaves tools to intents, and approved tools."""
    with installation() as made:
        room = Mailroom(made)
        room.keys = {name: str(made.root / f"{name}.json") for name in ("ana", "ben")}
        room.types("ana", "people", "enrol", "ana")
        (made.root / "p.cedar").write_text(POLICY)
        room.types("ana", "policy", "apply", made.root / "p.cedar")
        seed = secrets.token_bytes(32)
        ben = Path(room.keys["ben"])
        ben.write_text(json.dumps({"name": "ben", "seed": seed.hex()}))
        ben.chmod(0o600)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
        room.types("ana", "people", "enrol", "ben", "--public-key", public)
        made.cli("entry", "create", "--spiffe-id", AGENT, "--selector", "unix:uid:4242")
        room.approve_tools()
        yield room


def text(result: Any) -> str:
    """What a tool's result says."""
    return " ".join(str(getattr(part, "text", "")) for part in result.content)


def refusal(result: Any) -> dict[str, Any]:
    """The clause and decision of a refused call."""
    assert result.is_error, text(result)
    said: dict[str, Any] = result.meta["remit/decision"]
    return said
