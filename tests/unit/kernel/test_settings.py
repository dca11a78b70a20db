"""Settings: flag, else environment, else file, else default; a misspelt one is never ignored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import remit
from remit.kernel.errors import Misconfigured
from remit.kernel.settings import load_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    listen: str = "127.0.0.1:1"
    workers: int = 1
    quiet: bool = False
    never: tuple[str, ...] = ()


SECTIONS = {"server": Server}
_SOURCES = (Path(remit.__file__).parent / "surface" / "cli").rglob("*.py")
_OF_COMMANDS = {name for each in _SOURCES for name in re.findall(r'env_var="(REMIT_\w+)"', each.read_text())}


def load(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **flags: Any) -> Server:
    file = tmp_path / "remit.toml"
    file.write_text(toml)
    given = {key.replace("__", "."): value for key, value in flags.items()}
    loaded = load_settings(SECTIONS, file=file, environ=environ or {}, flags=given)["server"]
    assert isinstance(loaded, Server)
    return loaded


def refusal(*args: Any, **kwargs: Any) -> Misconfigured:
    with pytest.raises(Misconfigured) as refused:
        load(*args, **kwargs)
    return refused.value


@pytest.mark.parametrize(
    ("toml", "environ", "flags", "listen"),
    [
        ("", {}, {}, "127.0.0.1:1"),
        ('[server]\nlisten = "file"', {}, {}, "file"),
        ('[server]\nlisten = "file"', {"REMIT_SERVER_LISTEN": "environment"}, {}, "environment"),
        ('[server]\nlisten = "file"', {"REMIT_SERVER_LISTEN": "environment"}, {"server__listen": "flag"}, "flag"),
        ('[server]\nlisten = "file"', {}, {"server__listen": None}, "file"),
    ],
)
def test_the_nearer_to_the_user_wins(tmp_path: Path, toml: str, environ: Any, flags: Any, listen: str) -> None:
    assert load(tmp_path, toml, environ, **flags).listen == listen


def test_words_of_the_environment_become_numbers_truths_and_lists(tmp_path: Path) -> None:
    environ = {"REMIT_SERVER_WORKERS": "4", "REMIT_SERVER_QUIET": "true", "REMIT_SERVER_NEVER": "id_a, id_b,"}
    assert load(tmp_path, environ=environ) == Server(workers=4, quiet=True, never=("id_a", "id_b"))


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert load_settings(SECTIONS, file=tmp_path / "none", environ={}, flags={}) == {"server": Server()}


def test_reserved_variables_and_those_of_others_are_no_settings(tmp_path: Path) -> None:
    environ = {"REMIT_DATA": "/x", "REMIT_CONFIG": "/y", "REMIT_DATABASE": "z", "REMIT_NATS": "n", "OTHER_SERVER": "1"}
    assert load(tmp_path, environ=environ) == Server()


@pytest.mark.parametrize(
    ("toml", "environ", "said", "hint"),
    [
        ('[server]\nlissten = "x"', {}, "`server.lissten`", "did you mean `listen`?"),
        ("[sever]\n", {}, "`[sever]`", "did you mean `server`?"),
        ("listen = 1", {}, "`[listen]`", "known: server"),
        ("", {"REMIT_SERVER_WORKER": "1"}, "`server.worker`", "did you mean `workers`?"),
        ("", {"REMIT_SEVER_LISTEN": "1"}, "`REMIT_SEVER_LISTEN`", "REMIT_SERVER_"),
        ("", {"REMIT_": "1"}, "`REMIT_`", "REMIT_SERVER_"),
    ],
)
def test_an_unknown_setting_is_an_error_with_a_hint(
    tmp_path: Path, toml: str, environ: dict[str, str], said: str, hint: str
) -> None:
    error = refusal(tmp_path, toml, environ)
    assert error.code == "kernel.settings.unknown"
    assert said in error.message
    assert hint in error.next_step


@pytest.mark.parametrize(
    ("toml", "environ"),
    [
        ("[server", {}),
        ("\x00", {}),
        ('[server]\nworkers = "many"', {}),
        ("[server]\nlisten = 7", {}),
        ("", {"REMIT_SERVER_QUIET": "perhaps"}),
    ],
)
def test_what_cannot_be_read_says_where_it_stands(tmp_path: Path, toml: str, environ: dict[str, str]) -> None:
    error = refusal(tmp_path, toml, environ)
    assert error.code == "kernel.settings.invalid"
    assert "server" in error.message or "remit.toml" in error.message
    assert error.next_step


@pytest.mark.parametrize("variable", sorted({*_OF_COMMANDS, "REMIT_RUN", "REMIT_SSH_CONFIG", "REMIT_X509_CERT"}))
def test_what_commands_read_and_tasks_are_given_is_taken_for_no_setting(tmp_path: Path, variable: str) -> None:
    assert load(tmp_path, environ={variable: "x"}) == Server()
