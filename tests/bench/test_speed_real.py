"""The speed bench on real, tiny things: every contender computes the same, absent peers say so, parts add up."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from quantlab.bench.speed import peers
from quantlab.bench.speed.clock import Clock
from quantlab.bench.speed.contenders import CONTENDERS, GPU_CONTENDERS, STOCK, contenders
from quantlab.bench.speed.memory import part_of, read, write
from quantlab.bench.speed.ours import Garage
from quantlab.bench.speed.plan import MINI, PROFILE, SHAPES, Group
from quantlab.bench.speed.profile import shares
from quantlab.bench.speed.subject import Subject, random_network, released
from quantlab.cli import cli
from quantlab.errors import DeviceError, MissingLibraryError
from quantlab.models.layers import Block, LayerScale
from quantlab.models.networks import build_model

BLOCK = Group("mini", "block", "block", 69, 1)
FORWARD = Group("mini", "forward", "forward", 2, 1)
NAMED = {contender.name: contender for contender in CONTENDERS}


@pytest.fixture(scope="module")
def garage():
    subject = Subject(BLOCK)
    for module in subject.module.modules():
        if isinstance(module, LayerScale):  # gains of 0.01 would hide what is wrong in the residual stream
            torch.nn.init.ones_(module.gamma)
    return Garage(subject)


@pytest.mark.parametrize("contender", contenders(BLOCK, peers=[]), ids=lambda contender: contender.name)
def test_every_way_of_our_own_computes_the_same_block(garage, contender):
    """Within the rounding of 4-bit weights."""
    try:
        run, _ = garage.make(contender)
    except DeviceError as error:
        assert "native" in contender.name or "torch only" in contender.name, error  # noqa: PT017
        pytest.skip(str(error))
    x = garage.subject.input
    expected, found = garage.subject.module(x) - x, run().float() - x
    assert (found - expected).norm() <= 0.35 * expected.norm()


def test_making_contenders_leaves_the_stock_network_as_it_was(garage):
    before = garage.subject.run(garage.subject.module)()
    for name in ("bfloat16", "bfloat16 best", "W8A8 (bfloat16)"):
        garage.make(NAMED[name])[0]()
    assert torch.equal(garage.subject.run(garage.subject.module)(), before)
    assert all(parameter.dtype == torch.float32 for parameter in garage.subject.module.parameters())


def test_a_kernel_that_takes_no_layer_has_its_reason(garage, monkeypatch):
    from quantlab.kernels.table import KERNELS

    monkeypatch.setattr(KERNELS["onednn"], "refuses", lambda layer: "not today", raising=False)
    with pytest.raises(DeviceError, match="not today"):
        Garage(garage.subject).make(NAMED["W8A8 torch only"])


@pytest.mark.parametrize("name", sorted(peers.PEERS))
def test_a_peer_that_is_absent_says_how_to_get_it(name, monkeypatch):
    for module in ("torchao", "torchao.quantization", "onnxruntime", "openvino", "nncf"):
        monkeypatch.setitem(sys.modules, module, None)
    contender = next(c for c in (*CONTENDERS, *GPU_CONTENDERS) if c.maker == name)
    with pytest.raises(MissingLibraryError, match=r"quantlab\[bench\]"):
        peers.PEERS[name](Subject(BLOCK), contender)


def test_random_weights_are_held_by_bfloat16_and_differ_from_layer_to_layer():
    network = random_network(MINI)
    first, second = (network.aggregator.frame_blocks[index].mlp.fc1.weight for index in (0, 1))
    assert torch.equal(first, first.bfloat16().float())
    assert not torch.equal(first, second)


def test_the_released_sizes_are_those_of_the_goals():
    """1257 million parameters with the tracker, 1191 without."""
    counts = [
        sum(p.numel() for p in build_model("vggt", released(track=track), device="meta").parameters())
        for track in (True, False)
    ]
    assert [round(count / 1e6) for count in counts] == [1257, 1191]
    assert len(build_model("vggt", released(2), device="meta").aggregator.frame_blocks) == 2


def test_every_second_of_a_forward_belongs_to_one_part():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.depth_head = Block(8, 2), nn.Linear(8, 8)

        def forward(self, x):
            return self.depth_head(self.block(x))

    ticks = iter(range(10_000))
    network = Network()
    layers = [module for module in network.block.modules() if isinstance(module, nn.Linear)]
    found = shares(network, lambda: network(torch.zeros(1, 3, 8)), layers, Clock(lambda: float(next(ticks))))
    assert found["linears"] == 4  # four layers, one tick each from entry to exit
    assert found["heads"] == 1
    assert found["attention"] == 3  # before, between and after its two linears
    assert sum(found.values()) == next(ticks) - 1


def test_a_packed_network_is_written_loaded_and_run(tmp_path):
    part = part_of("packed W4A8 g128")
    write(part, tmp_path / "model", SHAPES["mini"].config)
    facts = read(tmp_path / "model", part, "mini", 2)
    assert 0 < facts["weights_bytes"] < 4 * 7.8e6 / 4
    assert facts["peak_bytes"] > facts["imported_bytes"]
    assert facts["forward_cpu_seconds"] > 0


def test_a_real_run_from_the_command_line(tmp_path):
    arguments = ["--shapes", "mini", "--levels", "forward", "--frames", "2", "--threads", "1"]
    typed = [
        "bench",
        "speed",
        *arguments,
        "--peers",
        "none",
        "--rows",
        "W8A8 (",
        "--quick",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "quantlab.cli", *typed],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"| {STOCK} |" in done.stdout
    assert "## Forward, 2 frames (mini)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--levels", "magic"], "magic"),
        (["--shapes", "huge"], "huge"),
        (["--threads", "two"], "two"),
        (["--peers", "nobody"], "nobody"),
        (["--render"], "nothing was measured"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(tmp_path, arguments, word):
    found = CliRunner().invoke(cli, ["bench", "speed", "--out", str(tmp_path), *arguments])
    assert found.exit_code == 2
    assert word in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_profile_takes_the_contenders_of_a_whole_forward():
    assert contenders(replace(FORWARD, level=PROFILE)) == contenders(FORWARD)
