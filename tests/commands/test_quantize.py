"""`quantlab quantize` from outside: what it prints, that it goes on where it was, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantlab.cli import cli

ARGUMENTS = (
    "quantize --model mini --scenes rooms:1 --views 2 --preset smoothquant --weights 4 --activations 8"
)


def run(out: Path, *more: str):
    return CliRunner().invoke(cli, [*ARGUMENTS.split(), "--out", str(out), *more])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("quantize") / "out"
    return run(out), out


def test_every_block_is_told_with_its_time_and_the_last_line_says_size_memory_and_seconds(done):
    result, out = done
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if "_blocks." in line]
    assert len(told) == 8
    assert all(" s, 4 layers, " in line for line in told)
    (last,) = result.stdout.splitlines()
    assert all(part in last for part in (str(out), " packed, peak memory", " s"))
    stored = sum(file.stat().st_size for file in (out / "stages").iterdir())
    assert 0.9 * stored < json.loads((out / "manifest.json").read_text())["finished"]["bytes"] <= stored


def test_a_stage_that_is_missing_is_made_again_and_the_others_are_not(done):
    _, out = done
    file = out / "stages" / "aggregator.global_blocks.2.safetensors"
    before = file.read_bytes()
    file.unlink()
    result = run(out)
    told = [line for line in result.stderr.splitlines() if "_blocks." in line]
    assert [line for line in told if "was there already" not in line] == [
        line for line in told if line.startswith("aggregator.global_blocks.2:")
    ]
    assert file.read_bytes() == before


@pytest.mark.parametrize("other", [("--seed", "1"), ("--weights", "8"), ("--views", "3")])
def test_a_folder_of_another_run_is_refused_with_exit_code_2(other, done):
    result = run(done[1], *other)
    assert result.exit_code == 2
    assert "belongs to another quantization" in result.stderr
