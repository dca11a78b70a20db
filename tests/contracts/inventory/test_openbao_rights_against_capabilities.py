"""Our evaluation of OpenBao's policies against the server's own (`sys/capabilities`), on generated policies."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from bench.openbao import Bao, available_openbao, dev_openbao

from remit.inventory.connectors.openbao_acl import Rights
from remit.providers.openbao.inventory import PathRule, statements_of

SETS = 80
PATHS = 40
PARTS = ("a", "ab", "b", "any", "x-y", "c+d")
CAPABILITIES = ("create", "read", "update", "delete", "list", "sudo", "patch")


@pytest.fixture(scope="module")
def bao() -> Iterator[Bao]:
    program = available_openbao()
    if program is None:
        pytest.skip("bao: not installed")
    with dev_openbao(program) as made:
        yield made


def pattern(dice: random.Random) -> str:
    """A path of a policy: few names, so that many rules meet at one path."""
    parts = [dice.choice((*PARTS, "+", "+")) for _ in range(dice.randint(1, 4))]
    end = dice.choice(("", "", "/", "*", "/*", "*"))
    made = "/".join(parts) + end
    return made.replace("+*", "+/*")


def policy(dice: random.Random) -> str:
    text = []
    for _ in range(dice.randint(1, 6)):
        words = ["deny"] if dice.random() < 0.15 else dice.sample(CAPABILITIES, dice.randint(1, 4))
        listed = ", ".join(f'"{each}"' for each in words)
        text.append(f'path "{dice.choice(("", "", "", "/"))}{pattern(dice)}" {{ capabilities = [{listed}] }}')
    return "\n".join(text)


def test_thousands_of_answers_are_those_of_the_server(bao: Bao) -> None:
    dice = random.Random(7)
    seen: Counter[bool] = Counter()
    differences = []
    for number in range(SETS):
        texts = [policy(dice) for _ in range(dice.randint(1, 3))]
        names = [f"p{number}-{at}" for at in range(len(texts))]
        for name, text in zip(names, texts, strict=True):
            bao.write(f"sys/policies/acl/{name}", {"policy": text})
        body = {"policies": names, "no_parent": True, "no_default_policy": True, "ttl": "10m"}
        token = bao.write("auth/token/create", body)["auth"]["client_token"]
        rights = Rights(rule for text in texts for rule in statements_of(text))
        paths = {
            "/".join(dice.choice(PARTS) for _ in range(dice.randint(1, 5))) + dice.choice(("", "", "/"))
            for _ in range(PATHS)
        }
        status, said = bao.ask("POST", "sys/capabilities", {"token": token, "paths": sorted(paths)})
        assert status == 200, said
        for path in paths:
            theirs = frozenset(said["data"][path]) - {"deny"}
            ours = rights.at(path).capabilities
            seen[bool(theirs)] += 1
            if ours != theirs:
                differences.append((path, sorted(ours), sorted(theirs), texts))
    assert differences[:2] == []
    assert sum(seen.values()) >= 2000 and min(seen.values()) >= 500, seen


def test_a_token_of_root_may_do_everything(bao: Bao) -> None:
    said = bao.ask("POST", "sys/capabilities", {"token": bao.root, "paths": ["sys/raw/x"]})[1]
    assert frozenset(said["data"]["sys/raw/x"]) == Rights((), root=True).at("sys/raw/x").capabilities


def test_a_rule_with_parameters_gives_under_a_condition() -> None:
    text = 'path "a/b" { capabilities = ["update"] allowed_parameters = { "policies" = ["x"] } }'
    assert Rights(statements_of(text)).at("a/b").limits
    free = PathRule(path="a/b", capabilities=("update",))
    assert not Rights([*statements_of(text), free]).at("a/b").limits
