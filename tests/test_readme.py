"""What README tells people to type works as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantlab.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^quantlab .*?(?=\s+#|$)", README, flags=re.MULTILINE)
FIRST_PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_verb_and_options_that_exist(command: str) -> None:
    _, verb, *arguments = shlex.split(command)
    told = CliRunner().invoke(cli, [verb, "--help"])
    assert told.exit_code == 0, command
    known = set(re.findall(r"--[a-z-]+", told.stdout))
    assert {word for word in arguments if word.startswith("--")} <= known


def test_there_are_commands_to_check() -> None:
    assert {command.split()[1] for command in COMMANDS} == {"inspect", "evaluate", "app", "doctor"}


def test_the_python_example_runs_and_its_undo_takes_the_last_edit_back(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(FIRST_PYTHON, "README.md", "exec"), names)
    assert "compensation" not in (tmp_path / "recipe.yaml").read_text()
    assert "smoothing: 0.5" in (tmp_path / "recipe.yaml").read_text()


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]
