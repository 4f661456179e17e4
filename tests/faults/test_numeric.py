"""Faults N1 to N21 at the lab: what is not finite is named, what is merely extreme gives finite numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quantlab as ql
from quantlab.errors import NumericError
from quantlab.models.model import Model

LAYER = "aggregator.frame_blocks.1.mlp.fc1"
QKV = "aggregator.frame_blocks.1.attn.qkv"
PRESETS = ["rtn", "gptq", "awq", "svdquant", "quantvggt", "taptq", "fgq", "qvggt", "versaq"]
VERBS = ["profile", "diagnose", "evaluate", "compare"]


class Mlp(nn.Module):
    """Two blocks of any width and number format, for what a VGGT cannot be made to have."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 24), nn.GELU(), nn.Linear(24, width)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.fixture
def damaged(model: Model) -> Callable[..., Model]:
    """A copy of the model with one weight changed by ``edit(weight)``."""

    def make(edit: Callable[[Tensor], object], layer: str = LAYER) -> Model:
        network = copy.deepcopy(model.network)
        edit(network.get_submodule(layer).weight.data)
        return Model(network, name="damaged")

    return make


def put(value: float, where: object = (0, 0)) -> Callable[[Tensor], object]:
    return lambda weight: weight.__setitem__(where, value)


@pytest.mark.parametrize(
    "value",
    [torch.nan, torch.inf, torch.finfo(torch.float32).max, 1e30],
    ids=["N1 NaN", "N2 inf", "N11 max", "N7 overflows in the next norm"],
)
def test_a_weight_that_cannot_be_computed_with_is_refused_near_where_it_stands(
    make_lab, unchanged, damaged, value: float
) -> None:
    bench = make_lab(damaged(put(value, slice(0, 2))))
    before = bench.recipe, bench.history
    with unchanged():
        for verb in VERBS:
            with pytest.raises(NumericError, match=r"_blocks\.1\.") as caught:
                getattr(bench, verb)()
            assert caught.value.remedy
    assert (bench.recipe, bench.history) == before
    bench.model.network.get_submodule(LAYER).weight.data[:2] = 0.1
    repaired = make_lab(bench.model)
    assert all(getattr(repaired, verb)() is not None for verb in VERBS)


def test_n3_a_nan_in_one_scene_is_named_and_the_other_scene_works(make_lab, refused, scene) -> None:
    bad = torch.zeros(1, 2, 3, 32, 32)
    bad[0, 1, 2, 3, 4] = torch.nan
    bench = make_lab(evaluation=[scene, bad])
    with refused("patch_embed"):
        bench.evaluate()
    with refused("patch_embed"):
        bench.compare(1)
    assert bench.compare(0).point_error >= 0


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "edit",
    [
        put(0.0, 0),
        put(0.0, (slice(None), 3)),
        put(0.0, ...),
        put(0.3, (slice(None), 3)),
        put(1e30),
        put(1e-40, ...),
    ],
    ids=["N4 row", "N4 channel", "N4 tensor", "N5 constant", "N7 outlier", "N9 subnormal"],
)
def test_an_extreme_weight_gives_finite_numbers(preset: str, edit: Callable[[Tensor], object]) -> None:
    network = Mlp()
    edit(network.blocks[0][0].weight.data)
    bench = ql.Lab(network, calibration=torch.randn(4, 12), recipe=ql.Recipe.preset(preset))
    assert 0 < bench.evaluate().full_precision.outputs["output"] < 1
    assert np.isfinite(list(bench.diagnose().layers.values())).all()
    assert np.isfinite(bench.profile().layers["blocks.0.0"].weight.kurtosis)
    assert bench.layer("blocks.0.0").output_error >= 0


def test_n6_an_input_without_tokens_has_no_error() -> None:
    bench = ql.Lab(Mlp(), calibration=torch.ones(0, 12))
    assert set(bench.diagnose().layers.values()) == {0.0}
    assert bench.evaluate().full_precision.outputs == {"output": 0.0}
    assert not bench.profile().layers


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_n6_a_layer_without_weights_is_named_and_the_lab_works_once_it_is_kept(refused) -> None:
    network = Mlp()
    network.blocks[0] = nn.Sequential(nn.Linear(12, 0), nn.Linear(0, 12))
    bench = ql.Lab(network, calibration=torch.randn(4, 12))
    with refused("blocks.0.0", "Keep this layer"):
        bench.evaluate()
    bench.set("blocks.0.*", keep=True)
    assert bench.evaluate().full_precision.outputs["output"] > 0
    assert set(bench.profile().layers) == {"blocks.1.0", "blocks.1.2"}


def test_n8_a_half_precision_row_of_1e_minus_7_does_not_vanish() -> None:
    network = Mlp().half()
    network.blocks[0][0].weight.data[0] = 1e-7
    bench = ql.Lab(network, calibration=torch.randn(4, 12).half())
    assert bench.evaluate().full_precision.outputs["output"] < 1
    assert bench._quantizer.network.blocks[0][0].weight[0].abs().min() > 0


def test_n10_a_double_beyond_float32_is_named_and_the_lab_works_once_it_is_kept(refused) -> None:
    network = Mlp().double()
    network.blocks[1][2].weight.data[0, 0] = 1e300
    bench = ql.Lab(network, calibration=torch.randn(4, 12).double())
    with refused("1e+300", "blocks.1.2"):
        bench.evaluate()
    bench.set("blocks.1.2", keep=True)
    assert 0 < bench.evaluate().full_precision.outputs["output"] < 1


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("width", [1, 9, 33, 384, 588])
def test_n12_any_width_can_be_rotated(preset: str, width: int) -> None:
    bench = ql.Lab(Mlp(width), calibration=torch.randn(6, width), recipe=ql.Recipe.preset(preset, weights=8))
    bench.set("*", activations=8)
    assert 0 < bench.evaluate().full_precision.outputs["output"] < 0.05


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_n13_a_channel_that_is_silent_in_calibration_may_speak_later(alpha: float) -> None:
    silent = torch.randn(8, 12) * (torch.arange(12) > 0)
    bench = ql.Lab(Mlp(), calibration=silent, evaluation=torch.randn(8, 12))
    bench.recipe = ql.Recipe.preset("rtn", weights=8, activations=8).set("*", smoothing=alpha)
    assert 0 < bench.evaluate().full_precision.outputs["output"] < 0.05


@pytest.mark.parametrize("tokens", [1, 2, 30])
def test_n14_n18_one_sample_of_fewer_tokens_than_channels_calibrates_all_there_is(tokens: int) -> None:
    static = {"activation_mode": "static", "activation_granularity": "tensor"}
    bench = ql.Lab(Mlp(), calibration=torch.randn(tokens, 12), recipe=ql.Recipe.preset("quantvggt"))
    bench.set("*", **static, range_search="percentile")
    assert 0 < bench.evaluate().full_precision.outputs["output"] < 1


@pytest.mark.parametrize("tokens", [1, 5])
def test_n14_a_compensation_with_fewer_tokens_than_channels_stays_finite(make_lab, scene, tokens) -> None:
    small = make_lab(calibration=scene, recipe=ql.Recipe.preset("taptq"))
    small.set("*", compensation="on", rank=10 * tokens)
    assert np.isfinite(list(small.evaluate().full_precision.outputs.values())).all()


@pytest.mark.parametrize("size", [1, 24])
def test_n15_groups_of_one_value_are_exact_and_one_of_the_whole_row_is_a_channel(make_lab, size) -> None:
    bench = make_lab(recipe=ql.Recipe.preset("rtn", activations=16))
    whole = bench.layer(QKV).weight_error
    bench.set(QKV, weight_granularity="group", group_size=size)
    assert bench.layer(QKV).weight_error == pytest.approx(whole if size == 24 else 0.0, abs=1e-6)
    assert np.isfinite(list(bench.evaluate().full_precision.outputs.values())).all()


def test_n19_a_collapsed_cloud_is_said_and_the_other_numbers_stay(make_lab, refused, model) -> None:
    network = copy.deepcopy(model.network)
    network.depth_head.scratch.output_conv2[2].bias.data.fill_(-200)  # a depth of exp(-200), which is 0
    bench = make_lab(Model(network, name="flat"))
    evaluation = bench.evaluate()
    assert evaluation.full_precision.point_error is None
    assert any("equal or on one line" in problem for problem in evaluation.problems)
    assert evaluation.full_precision.outputs["pose_enc"] > 0
    with refused("alignment"):
        bench.compare()


@pytest.mark.parametrize("preset", PRESETS)
def test_n21_two_labs_give_the_same_bits(make_lab, preset: str) -> None:
    first, second = (make_lab(recipe=ql.Recipe.preset(preset)).quantized().outputs for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
