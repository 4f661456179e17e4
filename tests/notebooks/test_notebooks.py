"""Every notebook of the repository runs from top to bottom, quickly, and is stored without output. No page opens."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_SECONDS = 45
MOST_BYTES = 2_000_000


def test_there_is_a_first_look() -> None:
    assert FOLDER / "01-first-look.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_output_or_state(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    assert "widgets" not in book.metadata
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_quickly_without_an_error_and_stays_small(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    started = time.monotonic()
    client.execute()  # raises at the first cell that fails
    seconds = time.monotonic() - started
    saved = tmp_path / "executed.ipynb"
    nbformat.write(book, saved)
    print(f"{path.name}: {seconds:.1f} s, {saved.stat().st_size / 1e3:.0f} kB with widget state")
    assert book.metadata["widgets"]
    assert saved.stat().st_size < MOST_BYTES
    warnings = [
        output.text
        for cell in book.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert warnings == []
    if os.getloadavg()[0] < 2 * (os.cpu_count() or 1):  # beside much other work it measures that work
        assert seconds < MOST_SECONDS
