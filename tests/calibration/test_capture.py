"""Laws of capture: statistics equal numpy's on the same values, hooks never stay, memory does not grow. No speeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats as oracle
from torch import Tensor, nn

from quantlab.calibration.capture import ProfileCollector, capture_profile
from quantlab.calibration.observe import observe
from quantlab.calibration.samples import collect_samples
from quantlab.errors import DeviceError, JobCancelledError, NumericError, SceneError
from quantlab.jobs import Job
from quantlab.models.structure import describe
from quantlab.models.tokens import KINDS, TokenLayout

LAYOUT = TokenLayout(2, 2, 3, {"frame": ("camera", "register")})


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.q(x) + self.k(x) * self.v(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attn = Attention()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(self.norm1(x))


class Network(nn.Module):
    """Tokens through two blocks, then as maps through a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.frame_blocks = nn.ModuleList(Block() for _ in range(2))
        self.out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.frame_blocks:
            x = block(x)
        maps = x[:, 2:].transpose(1, 2).unflatten(2, (2, 3))
        return self.out(maps * 5 + 3)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


def scenes(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 8, 8, generator=generator) * (index + 1) for index in range(count)]


def recorded(network: nn.Module, name: str, inputs: list[Tensor]) -> list[Tensor]:
    """Every input of one layer, by a hook of our own."""
    seen: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_pre_hook(
        lambda _, args: seen.append(args[0].clone())
    )
    with torch.no_grad():
        for x in inputs:
            network(x)
    handle.remove()
    return seen


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in network.modules())


NAMES = ("frame_blocks.0.attn.q", "frame_blocks.1.attn.v", "frame_blocks.1.attn.proj", "out")


@pytest.mark.parametrize("name", NAMES)
def test_statistics_equal_numpys_on_the_recorded_values(network: Network, name: str) -> None:
    profile = capture_profile(network, describe(network), None, scenes(), [LAYOUT] * 3)
    values = np.concatenate([x.double().numpy().ravel() for x in recorded(network, name, scenes())])
    found = profile.layers[name].all
    assert found.count == values.size
    assert found.max == pytest.approx(np.abs(values).max(), rel=1e-7)
    assert found.mean == pytest.approx(values.mean(), rel=1e-6, abs=1e-7)
    assert found.std == pytest.approx(values.std(), rel=1e-6)
    assert found.kurtosis == pytest.approx(oracle.kurtosis(values, fisher=False), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_histogram_counts_every_value_in_its_bin(network: Network, name: str) -> None:
    profile = capture_profile(network, describe(network), None, scenes(), [LAYOUT] * 3)
    values = np.concatenate([x.double().numpy().ravel() for x in recorded(network, name, scenes())])
    histogram = profile.layers[name].all.histogram
    expected, _ = np.histogram(values, bins=histogram.edges)
    # a value on an edge belongs to the bin further from zero, which is numpy's rule for positive values only
    assert (values[:, None] == histogram.edges[None]).sum() == 0
    np.testing.assert_array_equal(histogram.counts, expected)


def test_token_kinds_are_told_apart(network: Network) -> None:
    name = "frame_blocks.1.attn.q"
    profile = capture_profile(network, describe(network), None, scenes(), [LAYOUT] * 3)
    seen = torch.stack(recorded(network, name, scenes()))
    tokens = profile.layers[name].tokens
    parts = {"camera": seen[:, :, :1], "register": seen[:, :, 1:2], "patch": seen[:, :, 2:]}
    assert set(tokens) == {"all", *parts}
    for kind, values in parts.items():
        assert tokens[kind].count == values.numel()
        assert tokens[kind].max == pytest.approx(float(values.abs().max()))
        assert tokens[kind].std == pytest.approx(float(values.double().std(correction=0)), rel=1e-6)


def test_maxima_per_channel_and_per_token(network: Network) -> None:
    name = "frame_blocks.0.attn.proj"
    layer = capture_profile(network, describe(network), None, scenes(), [LAYOUT] * 3).layers[name]
    seen = recorded(network, name, scenes())
    np.testing.assert_array_equal(layer.channel_max, torch.cat(seen).abs().amax((0, 1)).numpy())
    np.testing.assert_array_equal(layer.token_max, seen[0].abs().amax(-1).flatten().numpy())
    np.testing.assert_array_equal(layer.token_kinds, np.tile(LAYOUT.kinds("frame", 8), 2))
    weight = network.get_submodule(name).weight.detach()
    np.testing.assert_array_equal(layer.weight_channel_max, weight.abs().amax(0).numpy())
    assert layer.weight.std == pytest.approx(float(weight.double().std(correction=0)), rel=1e-6)


@pytest.mark.parametrize("layout", ["rows", "channels_last"])
def test_maxima_of_maps_per_channel_and_per_pixel(network: Network, layout: str) -> None:
    conv = nn.Sequential(nn.Conv2d(5, 2, 3))
    x = torch.randn(3, 5, 6, 7)
    x = x.to(memory_format=torch.channels_last) if layout == "channels_last" else x
    layer = capture_profile(conv, describe(conv), None, [x]).layers["0"]
    np.testing.assert_array_equal(layer.channel_max, x.abs().amax((0, 2, 3)).numpy())
    np.testing.assert_array_equal(layer.token_max, x.abs().amax(1).flatten().numpy())
    np.testing.assert_array_equal(
        layer.weight_channel_max, conv[0].weight.detach().abs().amax((0, 2, 3)).numpy()
    )
    assert layer.all.kurtosis == pytest.approx(
        oracle.kurtosis(x.double().numpy().ravel(), fisher=False), rel=1e-5
    )


@pytest.mark.parametrize(("offset", "gain"), [(1e3, 1.0), (0.0, 1e-12), (0.0, 1e12), (-5.0, 1e-3)])
def test_moments_stay_exact_far_from_zero_and_at_the_ends_of_float32(offset: float, gain: float) -> None:
    network = nn.Sequential(nn.Linear(16, 4))
    x = torch.randn(50, 16) ** 3 * gain + offset
    found = capture_profile(network, describe(network), None, [x]).layers["0"].all
    values = x.double().numpy().ravel()
    assert found.mean == pytest.approx(values.mean(), rel=1e-5, abs=1e-6 * gain)
    assert found.std == pytest.approx(values.std(), rel=1e-5)
    assert found.kurtosis == pytest.approx(oracle.kurtosis(values, fisher=False), rel=1e-4)


def test_running_scenes_together_equals_running_them_in_one_batch(network: Network) -> None:
    apart = capture_profile(network, describe(network), None, scenes(), [LAYOUT] * 3)
    layout = TokenLayout(6, 2, 3, LAYOUT.specials)
    joined = capture_profile(network, describe(network), None, [torch.cat(scenes())], [layout])
    for name in NAMES:
        one, other = apart.layers[name], joined.layers[name]
        np.testing.assert_array_equal(one.all.histogram.counts, other.all.histogram.counts)
        assert one.all.kurtosis == pytest.approx(other.all.kurtosis, rel=1e-6)


def test_layers_that_read_one_tensor_share_the_pass_but_not_after_a_change_in_place(network: Network) -> None:
    class Changing(Attention):
        def forward(self, x: Tensor) -> Tensor:
            first = self.q(x)
            return self.proj(first + self.k(x.mul_(2)))

    network.frame_blocks[0].attn = Changing()
    profile = capture_profile(network, describe(network), None, scenes(1), [LAYOUT])
    small, large = (profile.layers[f"frame_blocks.0.attn.{name}"].all for name in "qk")
    assert large.max == pytest.approx(2 * small.max)
    assert large.std == pytest.approx(2 * small.std)


def test_a_layer_that_never_runs_is_absent(network: Network) -> None:
    profile = capture_profile(network, describe(network), network.frame_blocks[0], scenes(1), [LAYOUT])
    assert "frame_blocks.0.attn.q" in profile.layers
    assert "out" not in profile.layers


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_hooks_are_removed_whatever_stops_the_run(network: Network, error: type[BaseException]) -> None:
    def run(x: Tensor) -> None:
        network(x)
        raise error

    with pytest.raises(DeviceError if error is MemoryError else error):
        capture_profile(network, describe(network), run, scenes(), [LAYOUT] * 3)
    assert hooks(network) == 0
    profile = capture_profile(network, describe(network), None, scenes(), [LAYOUT] * 3)
    assert profile.layers
    assert hooks(network) == 0


def test_a_cancelled_job_stops_between_layers_and_leaves_no_hook(network: Network) -> None:
    job = Job(listener=lambda job: job.cancel() if "frame_blocks.1" in job.progress.text else None)
    with pytest.raises(JobCancelledError):
        capture_profile(network, describe(network), None, scenes(), [LAYOUT] * 3, job)
    assert hooks(network) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["frame_blocks.1.attn.proj", "out"])
def test_the_layer_that_first_receives_a_nan_is_named(network: Network, value: float, name: str) -> None:
    poisoned = {"out": "frame_blocks.1.attn.proj", "frame_blocks.1.attn.proj": "frame_blocks.1.attn.v"}[name]
    with torch.no_grad():
        network.get_submodule(poisoned).bias[0] = value
    structure = describe(network)
    for collect in (
        lambda: capture_profile(network, structure, None, scenes(1), [LAYOUT]),
        lambda: collect_samples(network, structure, None, scenes(1), [LAYOUT]),
    ):
        with pytest.raises(NumericError) as caught:
            collect()
        assert caught.value.place == name
        assert caught.value.remedy
    assert hooks(network) == 0


def test_out_of_memory_says_sizes_and_remedy(network: Network) -> None:
    def run(_x: Tensor) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    with pytest.raises(DeviceError, match="2, 8, 8") as caught:
        capture_profile(network, describe(network), run, scenes(1), [LAYOUT])
    assert "fewer" in caught.value.remedy


def test_no_scene_is_refused_and_one_is_enough(network: Network) -> None:
    with pytest.raises(SceneError):
        capture_profile(network, describe(network), None, [])
    assert capture_profile(network, describe(network), None, scenes(1)).layers


def test_what_is_kept_does_not_grow_with_the_scenes(network: Network) -> None:
    structure = describe(network)

    def kept(count: int) -> int:
        collector = ProfileCollector(structure)
        observe(network, structure, None, (x for x in scenes(count)), [LAYOUT] * count, observers=[collector])
        totals = [stream._total for stream in collector._streams.values()]
        return sum(t.nbytes for b in totals for t in (b.counts, b.sums, b.peaks, b.channels, b.tokens))

    assert kept(2) == kept(7)


def test_the_network_computes_the_same_while_it_is_watched(network: Network) -> None:
    outputs: list[Tensor] = []
    capture_profile(network, describe(network), lambda x: outputs.append(network(x)), scenes(), [LAYOUT] * 3)
    with torch.no_grad():
        for x, seen in zip(scenes(), outputs, strict=True):
            assert torch.equal(network(x), seen)


def test_samples_keep_all_special_tokens_then_patches_and_the_exact_maxima(network: Network) -> None:
    name = "frame_blocks.1.attn.proj"
    samples = collect_samples(network, describe(network), None, scenes(), [LAYOUT] * 3, rows=30)
    seen = torch.cat(recorded(network, name, scenes())).flatten(0, 1)
    kinds = np.tile(LAYOUT.kinds("frame", 8), 6)
    rows, codes = samples.rows(name), samples.kinds(name)
    assert rows.shape == (30, 8)
    special = {tuple(row.tolist()) for row in seen[torch.from_numpy(kinds != KINDS.index("patch"))]}
    assert {tuple(row.tolist()) for row in rows[: len(special)]} == special
    assert (codes[len(special) :] == KINDS.index("patch")).all()
    assert {tuple(row.tolist()) for row in rows} <= {tuple(row.tolist()) for row in seen}
    assert len({tuple(row.tolist()) for row in rows}) == 30
    assert torch.equal(samples.absmax(name), seen.abs().amax(0))


def test_special_tokens_never_take_more_than_half_of_the_sample(network: Network) -> None:
    samples = collect_samples(network, describe(network), None, scenes(), [LAYOUT] * 3, rows=10)
    codes = samples.kinds("frame_blocks.0.attn.q")
    assert len(codes) == 10
    assert (codes == KINDS.index("patch")).sum() == 5


def test_equal_seeds_draw_equal_rows_even_when_fewer_layers_are_sampled(network: Network) -> None:
    structure, name = describe(network), "frame_blocks.1.attn.q"
    one = collect_samples(network, structure, None, scenes(), [LAYOUT] * 3, rows=12)
    two = collect_samples(network, structure, None, scenes(), [LAYOUT] * 3, rows=12, layers=[name])
    other = collect_samples(network, structure, None, scenes(), [LAYOUT] * 3, rows=12, seed=1)
    assert two.names == (name,)
    assert torch.equal(one.rows(name), two.rows(name))
    assert not torch.equal(one.rows(name), other.rows(name))


def test_every_patch_of_every_scene_is_drawn_about_equally_often() -> None:
    network = nn.Sequential(nn.Linear(1, 1))
    inputs = [torch.arange(20.0)[:, None], torch.arange(20.0, 40.0)[:, None]]
    drawn = np.zeros(40)
    for seed in range(200):
        rows = collect_samples(network, describe(network), None, inputs, rows=10, seed=seed).rows("0")
        drawn[rows[:, 0].int().numpy()] += 1
    # each is drawn with probability 1/4: 50 of 200 times, standard deviation 6.1
    assert drawn.sum() == 2000
    assert (np.abs(drawn - 50) < 5 * 6.2).all()


def test_samples_of_a_layer_that_never_ran_are_refused_by_name(network: Network) -> None:
    samples = collect_samples(network, describe(network), None, scenes(1), layers=["out"])
    assert "out" in samples
    assert samples.rows("out").shape == (12, 8)
    with pytest.raises(NumericError) as caught:
        samples.rows("frame_blocks.0.attn.q")
    assert caught.value.place == "frame_blocks.0.attn.q"


def test_small_inputs_that_wait_are_all_counted_and_the_first_scene_alone_gives_the_token_maxima() -> None:
    network = nn.Sequential(nn.Linear(4, 2))
    inputs = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(9)]

    def twice(x: Tensor) -> None:
        network(x)
        network(2 * x)

    layer = capture_profile(network, describe(network), twice, inputs).layers["0"]
    values = torch.cat([torch.cat((x, 2 * x)) for x in inputs])
    assert layer.all.count == values.numel()
    assert layer.all.std == pytest.approx(float(values.double().std(correction=0)), rel=1e-6)
    np.testing.assert_array_equal(layer.token_max, values[:6].abs().amax(1).numpy())
    np.testing.assert_array_equal(layer.channel_max, values.abs().amax(0).numpy())


def test_a_nan_in_a_small_input_is_found_at_once_and_not_in_a_later_layer() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        network[0].bias[1] = float("nan")
    with pytest.raises(NumericError) as caught:
        capture_profile(network, describe(network), None, [torch.ones(1, 4)])
    assert caught.value.place == "1"
