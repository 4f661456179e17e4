"""What README tells people to type works as written."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantlab.cli import cli
from quantlab.engine import default_scenes, reconstruct
from quantlab.engine.presets import PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^quantlab .*?(?=\s+#|$)", README, flags=re.MULTILINE)
FIRST_PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_verb_and_options_that_exist(command: str) -> None:
    words = shlex.split(command)[1:]
    verbs = list(takewhile(lambda word: not word.startswith("-"), words))
    arguments = words[len(verbs) :]
    told = CliRunner().invoke(cli, [*verbs, "--help"])
    assert told.exit_code == 0, command
    known = set(re.findall(r"--[a-z-]+", told.stdout))
    assert {word for word in arguments if word.startswith("--")} <= known


def test_there_are_commands_to_check() -> None:
    known = {"inspect", "evaluate", "quantize", "search", "report", "bench", "export", "app", "doctor"}
    assert {command.split()[1] for command in COMMANDS} == known


def test_every_preset_is_in_the_table_with_its_paper_and_its_file() -> None:
    for name, preset in PRESETS.items():
        if name == "full_precision":
            continue
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
        assert preset.help in row
        assert f"https://arxiv.org/abs/{preset.arxiv}" in row
        assert f"](quantlab/methods/{preset.file})" in row


def test_the_python_example_runs_and_its_undo_takes_the_last_edit_back(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default_scenes, "POOL_ROOMS", 10)  # the example runs as it is, on less
    whole = reconstruct.Schedule
    monkeypatch.setattr(reconstruct, "Schedule", lambda **given: whole(**{**given, "epochs": 1}))
    names: dict[str, object] = {}
    exec(compile(FIRST_PYTHON, "README.md", "exec"), names)
    assert "compensation" not in (tmp_path / "recipe.yaml").read_text()
    assert "smoothing: 0.5" in (tmp_path / "recipe.yaml").read_text()


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]
