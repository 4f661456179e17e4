"""Rules of the house that no linter knows: sizes of files and functions, first lines, what may be shipped."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "quantlab").rglob("*.py") if "node_modules" not in path.parts)
FILE_LINES = 300
FUNCTION_LINES = 40
ASSETS_BYTES = 40_000_000
GOLDEN_BYTES = 20_000_000


def functions(tree: ast.Module):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function) -> int:
    """Lines of a function without its signature and docstring, which may be as long as they need."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
class TestEveryFile:
    def test_has_one_idea_and_so_at_most_300_lines(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= FILE_LINES

    def test_says_in_its_first_line_what_it_is(self, path: Path) -> None:
        text = path.read_text()
        first = (ast.get_docstring(ast.parse(text)) or "").splitlines()[:1]
        assert not text.strip() or (first and len(first[0]) > 20), first

    def test_has_short_functions(self, path: Path) -> None:
        long = [
            f"{f.name}: {body_lines(f)}"
            for f in functions(ast.parse(path.read_text()))
            if body_lines(f) > FUNCTION_LINES
        ]
        assert not long

    def test_checks_with_raise_and_never_with_assert(self, path: Path) -> None:
        asserts = [
            node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)
        ]
        assert not asserts

    def test_never_unpickles(self, path: Path) -> None:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
            assert options.get("weights_only", True) is True, call.lineno
            assert options.get("allow_pickle", False) is False, call.lineno
            if ast.unparse(call.func) == "torch.load":
                assert options.get("weights_only") is True, call.lineno


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


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
