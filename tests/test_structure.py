"""Rules of the house that no linter knows: sizes of files and functions, first lines, what may be shipped."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "quantlab").rglob("*.py") if "node_modules" not in path.parts)
FILE_LINES = 330  # "about 300": a little over is a matter for a reader, not for a machine
FUNCTION_LINES = 45
ASSETS_BYTES = 40_000_000
GOLDEN_BYTES = 26_000_000


def functions(module: ast.Module):
    return [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function) -> int:
    """Lines of a function without its signature and docstring, which may be as long as they need."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_a_file_has_one_idea_and_so_about_300_lines_at_most() -> None:
    lines = {short(path): len(path.read_text().splitlines()) for path in FILES}
    assert len(lines) > 20
    assert not {name: count for name, count in lines.items() if count > FILE_LINES}


def test_the_first_line_of_a_file_says_what_it_is() -> None:
    first = {short(path): (ast.get_docstring(tree(path)) or "").partition("\n")[0] for path in FILES}
    assert not [name for name, line in first.items() if len(line) < 20 and (ROOT / name).stat().st_size > 0]


def test_functions_are_short() -> None:
    lengths = {(short(path), f.name): body_lines(f) for path in FILES for f in functions(tree(path))}
    assert not {place: lines for place, lines in lengths.items() if lines > FUNCTION_LINES}


def test_what_a_user_or_a_file_can_cause_is_raised_and_never_asserted() -> None:
    nodes = [(short(path), node) for path in FILES for node in ast.walk(tree(path))]
    assert not [(name, node.lineno) for name, node in nodes if isinstance(node, ast.Assert)]


def test_nothing_is_unpickled() -> None:
    nodes = [(short(path), node) for path in FILES for node in ast.walk(tree(path))]
    assert not [(name, node.lineno) for name, node in nodes if isinstance(node, ast.Call) and unpickles(node)]


def unpickles(call: ast.Call) -> bool:
    options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    unsafe = options.get("weights_only", True) is not True or options.get("allow_pickle", False) is not False
    return unsafe or (ast.unparse(call.func) == "torch.load" and options.get("weights_only") is not True)


def test_the_search_for_unpickling_finds_it() -> None:
    risky = ["torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)"]
    safe = ["torch.load(f, weights_only=True)", "np.load(f)", "np.load(f, allow_pickle=False)"]
    assert [unpickles(ast.parse(code, mode="eval").body) for code in risky + safe] == [True] * 3 + [False] * 3


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_everything_beside_the_code_is_shipped_in_the_wheel() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {
        path
        for package, globs in data.items()
        for glob in globs
        for path in (ROOT / package.replace(".", "/")).glob(glob)
    }
    source = ROOT / "quantlab" / "viewer" / "js"
    beside = {path for path in tracked() if path.is_relative_to(ROOT / "quantlab") and path.suffix != ".py"}
    assert not {short(path) for path in beside - shipped if source not in path.parents}


def test_what_is_shipped_is_small() -> None:
    def size(folder: str) -> int:
        return sum(path.stat().st_size for path in (ROOT / folder).rglob("*") if path.is_file())

    assert size("assets") <= ASSETS_BYTES
    assert size("tests/golden") <= GOLDEN_BYTES


def test_no_file_names_a_place_outside_the_repository() -> None:
    outside = re.compile(rb"/(work|home|root|Users)/[a-z]")
    texts = [
        path for path in tracked() if path.suffix in {".py", ".md", ".toml", ".js", ".yaml", ".ipynb", ".css"}
    ]
    named = [path.name for path in texts if outside.search(path.read_bytes()) and path != Path(__file__)]
    assert not named


def test_notebooks_are_stored_without_output() -> None:
    import json

    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = json.loads(path.read_text())
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code), path.name
        assert "widgets" not in notebook["metadata"], path.name


def test_every_decision_is_short_and_numbered_without_gaps() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:3]) for path in files] == list(range(1, len(files) + 1))
    assert all(len(path.read_text().splitlines()) <= 14 for path in files)
