"""The trainer of the built-in models really trains, stops and resumes. How well it trains is on the model's card."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "training" / "train_mini.py"


TRUNKS = {"vggt": "global_blocks", "pi3": "decoder."}


def train(kind: str, folder: Path, frames: int) -> dict[str, object]:
    """Run the script as a person would, and read the state it leaves."""
    command = [sys.executable, str(SCRIPT), "--kind", kind, "--out", str(folder)]
    command += ["--frames", str(frames), "--batch", "8", "--rooms", "100"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    state: dict[str, object] = torch.load(folder / "state.pt", weights_only=True)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(TRUNKS))
def test_a_run_resumes_where_it_stopped_and_moves_the_weights(kind: str, tmp_path: Path) -> None:
    first = train(kind, tmp_path, 16)
    second = train(kind, tmp_path, 32)
    assert isinstance(first["frames"], int)
    assert isinstance(second["frames"], int)
    assert 16 <= first["frames"] < 32 <= second["frames"]
    assert isinstance(first["network"], dict)
    assert isinstance(second["network"], dict)
    moved = [
        name for name, value in second["network"].items() if not torch.equal(value, first["network"][name])
    ]
    assert any(TRUNKS[kind] in name for name in moved)
    assert any("camera_head" in name for name in moved)
    assert all(torch.isfinite(value).all() for value in second["network"].values())
