"""Agents by their definitions: who they are, with which tools, under whose account."""

from __future__ import annotations

import json

from remit.inventory.connectors.files.testing import credentials, discover, edges, identities, read, rules, skips, write
from remit.inventory.model import IdentityKind

KEY = "sk-ant-api03-" + "aB3d" * 20


def test_an_agent_file_that_may_use_a_shell_becomes_its_account() -> None:
    text = "---\nname: fixer\ndescription: mends things\ntools: Read, Bash\nmodel: opus\n---\nYou mend things.\n"
    facts = read("agent-files", "/home/a/.claude/agents/fixer.md", text)
    (agent,) = [fact for fact in identities(facts) if fact.kind is IdentityKind.AI_AGENT]
    assert agent.attributes["tools"] == "Bash, Read" and agent.attributes["model"] == "opus"
    assert edges(facts, "runs-as") and "files.agent-runs-commands" in rules(facts)


def test_an_agent_that_only_reads_becomes_nobody() -> None:
    facts = read("agent-files", "/x/.claude/agents/r.md", "---\nname: r\ntools: [Read]\n---\n")
    assert not edges(facts, "runs-as") and not rules(facts)


def test_every_agent_of_a_crew_is_one() -> None:
    text = f"writer:\n  role: writes\n  goal: text\n  tools: [CodeInterpreterTool]\n  api_key: {KEY}\nreader:\n  role: reads\n  goal: x\n"
    facts = read("crewai", "/x/config/agents.yaml", text)
    assert {fact.title for fact in identities(facts) if fact.kind is IdentityKind.AI_AGENT} == {
        "writer (CrewAI)",
        "reader (CrewAI)",
    }
    assert credentials(facts) and KEY not in str(facts)


def test_a_card_without_a_security_scheme_is_a_finding() -> None:
    card = {"name": "Booker", "url": "https://book.example/a2a", "skills": [{"id": "book"}], "capabilities": {}}
    assert "files.agent-without-authentication" in rules(read("agent-cards", "agent-card.json", json.dumps(card)))
    guarded = card | {"securitySchemes": {"oauth": {"type": "oauth2"}}}
    assert rules(read("agent-cards", "agent-card.json", json.dumps(guarded))) == set()


def test_exported_assistants_are_agents() -> None:
    listed = {
        "object": "list",
        "data": [{"object": "assistant", "id": "asst_1", "name": "Helper", "tools": [{"type": "code_interpreter"}]}],
    }
    facts = read("agent-cards", "assistants.json", json.dumps(listed))
    assert [fact.title for fact in identities(facts) if fact.kind is IdentityKind.AI_AGENT] == [
        "Helper (OpenAI assistant)"
    ]


def test_a_scan_of_a_home_shows_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path, {
        ".claude/agents/a.md": "---\nname: a\ntools: Read\n---\n", "README.md": "---\nname: none\n---\n",
        ".well-known/agent.json": "{}", ".aider.conf.yml": "model: x\nyes-always: true\n",
    })  # fmt: skip
    facts = discover(tmp_path)
    assert {f.title for f in identities(facts) if f.kind is IdentityKind.AI_AGENT} == {
        "a (agent file)",
        "aider (aider)",
    }
    assert "malformed" in skips(facts)
