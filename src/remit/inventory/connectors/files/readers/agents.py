"""Definitions of AI agents: front matter of agent files, CrewAI, A2A agent cards, assistants, command-line agents.

Spec: Claude Code "Subagents" and GitHub Copilot "custom agents" (front matter: `name`, `tools`, `model`); CrewAI
"Agents" (`agents.yaml`); A2A protocol 0.3, "AgentCard"; OpenAI API, "assistant" object; aider, `.aider.conf.yml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import flatten, record_settings
from remit.inventory.connectors.files.formats import (
    Document,
    Malformed,
    Tree,
    decode,
    mapping,
    parse_json,
    sequence,
    text,
)
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import Autonomy, IdentityKind, Relation, Severity
from remit.kernel.ids import Name

MAX_AGENTS = 500
_STRONG = frozenset(
    {"bash", "shell", "execute", "terminal", "run_in_terminal", "code_interpreter", "codeinterpretertool", "*"}
)


def _agent(
    sheet: Sheet, local: str, *, framework: str, tools: Iterable[str], model: str = "", purpose: str = "",
    line: int | None = None,
) -> Name:  # fmt: skip
    """Record one agent with its tools; one that may run commands becomes the account under which it runs."""
    at = sheet.file.repository
    if at and at.slug:
        of = sheet.name(at.system, at.forge, "agent", f"{at.slug}/{sheet.file.within_repository}#{local}")
    else:
        of = sheet.name("host", sheet.file.host, "agent", f"{sheet.file.path}#{local}")
    listed = sorted({clean(tool, 60) for tool in tools if tool})[:100]
    sheet.identity(
        of, IdentityKind.AI_AGENT, f"{local} ({framework})", line=line,
        attributes={"autonomy": Autonomy.AUTONOMOUS.value, "framework": framework, "model": model, "purpose": purpose,
                    "tools": ", ".join(listed) or "those of its client"},
    )  # fmt: skip
    strong = [tool for tool in listed if tool.partition("(")[0].lower() in _STRONG]
    if strong:
        account = sheet.account()
        sheet.edge(of, Relation.RUNS_AS, account, f"its tools run commands: {', '.join(strong)}", line=line)
        sheet.finding(
            "agent-runs-commands", Severity.MEDIUM, f"agent {clean(local, 60)} may run any command",
            f"what it reads can tell it to use {', '.join(strong)}",
            f"give it the tools that its task needs, behind the gateway; `remit blast {of}` shows what it reaches",
            subject=of, line=line,
        )  # fmt: skip
    return of


def _words(value: Tree) -> list[str]:
    """A list of names, or one text with commas."""
    return [
        text(each) or text(mapping(each).get("name")) or text(mapping(each).get("type")) for each in sequence(value)
    ] or [part.strip() for part in text(value).split(",")]


def read_front_matter(sheet: Sheet) -> None:
    """Record the agent that a Markdown file with front matter defines; one without defines none."""
    source = decode(sheet.file.data)
    if not source.startswith("---"):
        return
    head, end, _ = source[3:].partition("\n---")
    documents = parse_yaml(head.encode()) if end else []
    root = mapping(documents[0].value) if documents else {}
    local = text(root.get("name")) or sheet.file.name.partition(".")[0]
    _agent(
        sheet, local, framework="agent file", tools=_words(root.get("tools")) if "tools" in root else ["*"],
        model=text(root.get("model")), purpose=text(root.get("description")), line=1,
    )  # fmt: skip


def read_crew(sheet: Sheet) -> None:
    """Record each agent of a CrewAI configuration, and secrets beside it."""
    for document in parse_yaml(sheet.file.data):
        for local, entry in list(mapping(document.value).items())[:MAX_AGENTS]:
            if isinstance(entry, dict) and ("role" in entry or "goal" in entry):
                of = _agent(
                    sheet, local, framework="CrewAI", tools=_words(entry.get("tools")), model=text(entry.get("llm")),
                    purpose=text(entry.get("role")), line=document.line(local),
                )  # fmt: skip
                record_settings(sheet, flatten(Document(entry)), holders=[of])


def read_card(sheet: Sheet) -> None:
    """Record the agent of an A2A card or an assistant's export: where it is, what it offers, who is let in."""
    document = parse_json(sheet.file.data)
    entries = sequence(mapping(document.value).get("data")) or [document.value]
    for entry in [mapping(each) for each in entries][:MAX_AGENTS]:
        if entry.get("object") == "assistant":
            _agent(
                sheet, text(entry.get("name")) or text(entry.get("id")), framework="OpenAI assistant",
                tools=_words(entry.get("tools")), model=text(entry.get("model")),
                purpose=text(entry.get("description")),
            )  # fmt: skip
        elif "skills" in entry or "capabilities" in entry:
            _card(sheet, entry)
        else:
            raise Malformed("no agent card")


def _card(sheet: Sheet, entry: Mapping[str, Tree]) -> None:
    skills = [
        text(mapping(each).get("id")) or text(mapping(each).get("name")) for each in sequence(entry.get("skills"))
    ]
    local = text(entry.get("name")) or "agent"
    of = _agent(sheet, local, framework="A2A", tools=skills, purpose=text(entry.get("description")))
    try:
        host = urlsplit(text(entry.get("url"))).hostname or ""
    except ValueError:
        host = ""
    if host:
        there = sheet.resource(sheet.name("a2a", host, "endpoint", host), "agent-endpoint", f"{local} at {host}")
        sheet.edge(of, Relation.CAN_REACH, there, "it answers there", actions=["serve"])
    if not mapping(entry.get("securitySchemes")) and not mapping(entry.get("authentication")):
        sheet.finding(
            "agent-without-authentication", Severity.MEDIUM, f"agent {clean(local, 60)} asks nobody who they are",
            "its card names no security scheme", "name one in the card, and require it", subject=of,
        )  # fmt: skip


def read_aider(sheet: Sheet) -> None:
    """Record aider as an agent of the account, with its keys."""
    for document in parse_yaml(sheet.file.data):
        root = mapping(document.value)
        tools = ["shell"] if root.get("yes-always") is True else []
        of = _agent(sheet, "aider", framework="aider", tools=tools, model=text(root.get("model")))
        record_settings(sheet, flatten(document), holders=[of])


AGENT_FILES = Reader(
    id="agent-files",
    reads="AI agents defined by Markdown files with front matter",
    patterns=(
        Pattern(suffixes=(".md",), under=(".claude/agents", ".github/agents", ".cursor/agents", ".opencode/agent")),
        Pattern(regex=r".{1,80}\.(?:agent|chatmode)\.md"),
    ),
    read=read_front_matter,
)
CREWS = Reader(
    id="crewai",
    reads="agents of CrewAI",
    patterns=(Pattern(names=("agents.yaml", "agents.yml"), under=("config",)),),
    read=read_crew,
)
CARDS = Reader(
    id="agent-cards",
    reads="A2A agent cards and exported assistants",
    patterns=(
        Pattern(names=("agent.json", "agent-card.json"), under=(".well-known",)),
        Pattern(names=("agent-card.json", "assistants.json", "assistant.json")),
    ),
    read=read_card,
)
AIDER = Reader(id="aider", reads="aider", patterns=(Pattern(names=(".aider.conf.yml",)),), read=read_aider)
READERS = (AGENT_FILES, CREWS, CARDS, AIDER)
