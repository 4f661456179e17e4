"""Laws of the block cache: cached runs equal plain ones bit for bit, and an edit runs only what it can change."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from quantlab.engine.replay import PATIENCE, BlockCache
from quantlab.models.structure import describe
from quantlab.models.zoo import build_model

CONFIG = {
    "patch_size": 4,
    "aggregator": {"img_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_register_tokens": 1},
    "vit": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


def vggt() -> nn.Module:
    torch.manual_seed(0)
    network = build_model("vggt", CONFIG).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(x))


class Chain(nn.Module):
    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Cell() for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


class Bench:
    """A network whose blocks are edited with a state token each."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.blocks = list(describe(network).blocks)
        self.states: dict[str, Hashable] = dict.fromkeys(self.blocks, 0)
        self.cache = BlockCache()
        self.weights = {name: p.clone() for name, p in network.named_parameters()}

    def edit(self, block: str, version: int) -> None:
        """Version v of a block has its own weights scaled by 1 + v/8; version 0 is the original."""
        for name, parameter in self.network.named_parameters():
            holders = [b for b in self.blocks if name.startswith(f"{b}.")]
            if holders and max(holders, key=len) == block:
                parameter.copy_(self.weights[name] * (1 + version / 8))
        self.states[block] = version

    def run(self, x: Tensor) -> dict[str, Tensor]:
        with self.cache.installed(self.network, self.states):
            return self.network(x)


@settings(max_examples=15, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6
    )
)
def test_a_cached_run_equals_a_plain_run_bit_for_bit_after_any_edits(
    edits: list[tuple[int, int, int]],
) -> None:
    bench = Bench(vggt())
    scenes = [
        torch.rand(1, frames, 3, 8, 12, generator=torch.Generator().manual_seed(frames)) for frames in (1, 3)
    ]
    for which, version, scene in edits:
        bench.edit(bench.blocks[which % len(bench.blocks)], version)
        cached = bench.run(scenes[scene])
        assert equal(cached, bench.network(scenes[scene]))


@pytest.mark.parametrize("index", range(4))
def test_an_edit_in_one_block_runs_it_and_those_after_it(index: int) -> None:
    network = vggt()
    bench = Bench(network)
    x = torch.rand(1, 2, 3, 8, 8)
    bench.run(x)
    trunk = [f"aggregator.{kind}_blocks.{depth}" for depth in range(2) for kind in ("frame", "global")]
    bench.edit(trunk[index], 1)
    bench.run(x)
    ran = [name for name in bench.cache.executed if name in trunk]
    assert ran == trunk[index:]
    assert [name for name in bench.cache.skipped if name in trunk] == trunk[:index]


def test_a_head_runs_alone_after_an_edit_in_it() -> None:
    bench = Bench(vggt())
    x = torch.rand(1, 2, 3, 8, 8)
    bench.run(x)
    bench.edit("depth_head", 1)
    outputs = bench.run(x)
    assert bench.cache.executed == ["depth_head"]
    assert equal(outputs, bench.network(x))


def test_a_block_inside_a_head_makes_the_head_run_too() -> None:
    bench = Bench(vggt())
    x = torch.rand(1, 2, 3, 8, 8)
    bench.run(x)
    bench.edit("camera_head.trunk.0", 1)
    outputs = bench.run(x)
    assert set(bench.cache.executed) == {"camera_head", "camera_head.trunk.0"}
    assert equal(outputs, bench.network(x))


def test_nothing_runs_twice_for_the_same_input_and_state() -> None:
    bench = Bench(vggt())
    x = torch.rand(1, 2, 3, 8, 8)
    first = bench.run(x)
    again = bench.run(x.clone())
    assert bench.cache.executed == []
    assert equal(first, again)


def test_an_undone_edit_is_answered_from_memory() -> None:
    bench = Bench(vggt())
    x = torch.rand(1, 2, 3, 8, 8)
    first = bench.run(x)
    for version in (1, 0):
        bench.edit("aggregator.frame_blocks.0", version)
        last = bench.run(x)
    assert bench.cache.executed == []
    assert equal(first, last)


@pytest.mark.parametrize("who", ["input", "output"])
def test_nobody_outside_can_change_what_is_stored(who: str) -> None:
    bench = Bench(Chain())
    x = torch.randn(3, 6)
    expected = bench.network(x)
    given_in, out = x.clone(), None
    out = bench.run(given_in)
    (given_in if who == "input" else out).zero_()
    assert torch.equal(bench.run(x), expected)
    bench.run(x).zero_()
    assert torch.equal(bench.run(x), expected)


def test_a_block_that_changes_its_input_in_place_is_stored_with_what_it_was_given() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    network = nn.Sequential(Greedy())
    cache = BlockCache()
    for _ in range(2):
        with cache.installed(network, {"0": 0}):
            assert network(torch.ones(3)).tolist() == [2, 2, 2]


def test_other_strides_training_mode_or_precision_are_other_runs() -> None:
    bench = Bench(Chain(1))
    x = torch.randn(6, 6)

    def ran_anew(given: Tensor) -> bool:
        bench.run(given)
        return bench.cache.executed == bench.blocks

    assert ran_anew(x)
    assert not ran_anew(x)
    assert ran_anew(x.T.contiguous().T)
    with torch.autocast("cpu", torch.bfloat16):
        assert ran_anew(x)
    bench.network.blocks[0].eval()
    assert ran_anew(x)


def test_nothing_is_stored_while_gradients_are_wanted() -> None:
    bench = Bench(Chain(2))
    with torch.enable_grad():
        bench.run(torch.randn(2, 6)).sum().backward()
    assert bench.cache.bytes == 0
    assert bench.network.blocks[0].fc.weight.grad is not None


def test_arguments_that_cannot_be_compared_make_a_block_run_each_time() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor, extra: object) -> Tensor:
            return x + len(str(extra))

    network, cache = nn.Sequential(Odd()), BlockCache()
    for _ in range(2):
        with cache.installed(network, {"0": 0}):
            network[0](torch.ones(2), object())
        assert cache.executed == ["0"]
    assert cache.bytes == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_network_is_itself_again_whatever_happens(error: type[BaseException]) -> None:
    bench = Bench(Chain(2))
    handle = bench.network.blocks[1].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(error()))
    with pytest.raises(error):
        bench.run(torch.randn(2, 6))
    handle.remove()
    assert all("forward" not in block.__dict__ for block in bench.network.blocks)
    x = torch.randn(2, 6)
    assert torch.equal(bench.run(x), bench.network(x))


def test_memory_stays_under_its_limit_and_the_first_blocks_keep_their_place() -> None:
    bench = Bench(Chain(6))
    x = torch.randn(4, 6)
    one = 2 * x.nbytes
    bench.cache = BlockCache(limit_bytes=3 * one)
    for _ in range(3):
        expected = bench.network(x)
        assert torch.equal(bench.run(x), expected)
        assert bench.cache.bytes <= 3 * one
    assert bench.cache.skipped == bench.blocks[:3]


def test_entries_of_a_left_scene_make_room_after_some_rounds() -> None:
    bench = Bench(Chain(2))
    x, y = torch.randn(4, 6), torch.randn(4, 6)
    bench.run(x)
    bench.cache.limit_bytes = bench.cache.bytes
    for _ in range(PATIENCE + 2):
        bench.run(y)
    assert bench.cache.executed == []
    assert bench.cache.bytes <= bench.cache.limit_bytes


def test_clearing_gives_all_memory_back() -> None:
    bench = Bench(vggt())
    bench.run(torch.rand(1, 2, 3, 8, 8))
    assert bench.cache.bytes > 0
    bench.cache.clear()
    assert bench.cache.bytes == 0


def test_a_round_that_answers_nothing_runs_every_block_and_remembers_each_once() -> None:
    network, cache, states = Chain(), BlockCache(), {f"blocks.{i}": 0 for i in range(4)}
    x = torch.randn(2, 6)
    held = []
    for _ in range(2):
        with cache.installed(network, states, answers=False):
            network(x)
        assert cache.executed == list(states)
        held.append(cache.bytes)
    assert held[0] == held[1] > 0
    with cache.installed(network, states):
        network(x)
    assert cache.skipped == list(states)


def test_a_round_that_stores_nothing_answers_what_is_known_and_leaves_the_memory_as_it_was() -> None:
    network, cache, states = Chain(), BlockCache(), {f"blocks.{i}": 0 for i in range(4)}
    x = torch.randn(2, 6)
    with cache.installed(network, states):
        network(x)
    held = cache.bytes
    with cache.installed(network, states | {"blocks.2": 1}, stores=False):
        network(x)
    assert cache.skipped == ["blocks.0", "blocks.1", "blocks.3"]
    assert cache.executed == ["blocks.2"]
    assert cache.bytes == held
