"""Faults of calibration, at every preset that calibrates: a new one is tested by being registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quantlab as ql
from quantlab.engine import decisions, fisher_data, stages
from quantlab.engine.plan import plan
from quantlab.engine.presets import PRESETS
from quantlab.errors import JobCancelledError, NumericError, RecipeError
from quantlab.jobs import Job
from quantlab.models.structure import describe

WIDTH = 12
LAYER = "blocks.0.0"


class Mlp(nn.Module):
    """Two blocks in a plain list, whose calibration takes milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 24), nn.GELU(), nn.Linear(24, WIDTH)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


CALIBRATED = [name for name in PRESETS if plan(describe(Mlp()), ql.Recipe.preset(name)).calibrated]
every_preset = pytest.mark.parametrize("preset", CALIBRATED)


def rows(tokens: int = 20, seed: int = 0) -> Tensor:
    return torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def changed(value: float, where: Any) -> Tensor:
    """Input of which one entry, or one channel, is something else."""
    x = rows()
    x[where] = value
    return x


def lab_of(preset: str, calibration: Any, network: nn.Module | None = None) -> ql.Lab:
    recipe = ql.Recipe.preset(preset)
    return ql.Lab(network or Mlp(), calibration=calibration, evaluation=[rows(8, 1)], recipe=recipe)


def loss(lab: ql.Lab) -> float:
    return lab.evaluate().full_precision.outputs["output"]


def test_the_list_holds_what_is_meant() -> None:
    meant = {"smoothquant", "gptq", "awq", "svdquant", "quantvggt", "taptq", "taptq_static", "fgq", "qvggt"}
    assert meant <= set(CALIBRATED)


@every_preset
@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["N1 NaN", "N2 inf"])
def test_a_weight_that_is_not_finite_is_named_and_the_repaired_one_works(preset: str, value: float) -> None:
    network = Mlp()
    network.blocks[1][0].weight.data[0, 0] = value
    with pytest.raises(NumericError, match=r"blocks\.1\.") as caught:
        loss(lab_of(preset, [rows()], network))
    assert caught.value.remedy
    network.blocks[1][0].weight.data[0, 0] = 0.1
    assert 0 < loss(lab_of(preset, [rows()], network)) < 1


@every_preset
@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["NaN", "inf"])
def test_n3_calibration_that_is_not_finite_is_named_and_leaves_the_former_network(
    preset: str, value: float
) -> None:
    lab = lab_of("rtn", [changed(value, (3, 4))])
    before, states, recipe = loss(lab), lab._quantizer.states(), lab.recipe
    lab.recipe = ql.Recipe.preset(preset)
    with pytest.raises(NumericError, match=LAYER) as caught:
        lab.evaluate()
    assert caught.value.remedy
    assert lab._quantizer.states() == states
    lab.recipe = recipe
    assert loss(lab) == before


@pytest.mark.parametrize("method", ["nfds", "coarse_to_fine", "frame_aware", "random"])
def test_n3_of_several_scenes_the_one_that_is_not_finite_is_left_out_with_the_reason(method: str) -> None:
    lab = lab_of("rtn", [rows(), changed(torch.nan, (3, 4)), rows(seed=2)])
    found = lab.pool_map(method)
    assert 1 not in found.picked
    assert "not finite" in found.dropped[1]
    if method != "random":  # which does not look
        lab.recipe = ql.Recipe.preset("smoothquant").calibrated(method)
        assert 0 < loss(lab) < 1


EXTREME = {
    "N5 constant channel": changed(3.0, (slice(None), 2)),
    "N13 silent channel": changed(0.0, (slice(None), 2)),
    "N7 outlier channel": rows() * torch.where(torch.arange(WIDTH) == 2, 1e6, 1.0),
    "N7 one outlier": changed(1e20, (3, 4)),
    "N4 all zero": torch.zeros(5, WIDTH),
    "N9 subnormal": rows() * 1e-40,
    "N18 one token": rows(1),
    "N14 fewer tokens than channels": rows(5),
}


@every_preset
@pytest.mark.parametrize("case", EXTREME)
def test_extreme_calibration_gives_finite_numbers(preset: str, case: str) -> None:
    lab = lab_of(preset, [EXTREME[case]])
    assert loss(lab) > 0
    assert np.isfinite(loss(lab))
    assert np.isfinite(list(lab.diagnose().layers.values())).all()
    assert lab.layer(LAYER).weight_error >= 0
    network = lab._quantizer.network
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())


@every_preset
def test_n18_no_scene_at_all_is_refused_and_one_is_enough(preset: str) -> None:
    with pytest.raises(RecipeError, match="calibration") as caught:
        ql.quantize(Mlp(), ql.Recipe.preset(preset))
    assert caught.value.remedy
    quantized = ql.quantize(Mlp(), ql.Recipe.preset(preset), [rows()])
    with torch.no_grad():
        assert bool(quantized(rows()).isfinite().all())


@every_preset
def test_a_layer_that_the_result_does_not_depend_on_is_calibrated_all_the_same(preset: str) -> None:
    class Shut(Mlp):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.blocks[0](x) + 0.0 * self.blocks[1](x)

    lab = lab_of(preset, [rows()], Shut())
    assert 0 <= loss(lab) < 1
    assert lab.layer("blocks.1.0").output_error < 1


@every_preset
def test_layers_of_a_block_that_is_never_called_as_a_whole_are_calibrated_on_what_they_see(
    preset: str,
) -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tail = Mlp().blocks[0]

        def forward(self, x: Tensor) -> Tensor:
            for step in self.tail:
                x = step(x)
            return x

    lab = lab_of(preset, [rows()], Apart())
    if PRESETS[preset].settings.get("reconstruction") == "fisher":
        with pytest.raises(RecipeError, match="reconstruction 'block'"):
            loss(lab)
        return
    assert 0 <= loss(lab) < 1
    assert lab.layer("tail.0").output_error < 1


# -- stopped and broken off ---------------------------------------------------------------------------------------


def reports(preset: str) -> int:
    seen: list[float] = []
    lab_of(preset, [rows(), rows(seed=2)]).calibrated(job=Job(lambda job: seen.append(job.progress.done)))
    return len(seen)


def hooked_modules(lab: ql.Lab) -> list[nn.Module]:
    return [*lab._quantizer.network.modules(), *lab._quantizer.reference.modules()]


def stopping(last: int) -> Job:
    """A job that is stopped at its report number ``last``."""
    seen: list[int] = []

    def listen(job: Job) -> None:
        seen.append(1)
        if len(seen) >= last:
            job.cancel()

    return Job(listen)


@every_preset
def test_k4_wherever_calibration_is_stopped_the_former_network_stays_and_the_next_run_is_that_of_a_fresh_lab(
    preset: str,
) -> None:
    scenes = [rows(), rows(seed=2)]
    expected, steps = loss(lab_of(preset, scenes)), reports(preset)
    for last in sorted({1, steps // 4, steps // 2, 3 * steps // 4, steps - 1}):
        lab = lab_of("rtn", scenes)
        loss(lab)
        former, layers = lab._quantizer.states(), dict(lab._quantizer._layers)
        lab.recipe = ql.Recipe.preset(preset)
        with pytest.raises(JobCancelledError, match="stopped"):
            lab.calibrated(job=stopping(last))
        assert lab._quantizer.states() == former
        assert dict(lab._quantizer._layers) == layers
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in hooked_modules(lab))
        assert loss(lab) == expected


@every_preset
def test_a_failure_in_the_middle_leaves_the_former_network_and_the_next_run_works(
    unchanged, monkeypatch, preset: str
) -> None:
    scenes = [rows(), rows(seed=2)]
    expected = loss(lab_of(preset, scenes))
    for fails in (1, 3):
        lab = lab_of("rtn", scenes)
        loss(lab)
        former, layers = lab._quantizer.states(), dict(lab._quantizer._layers)
        lab.recipe = ql.Recipe.preset(preset)
        with monkeypatch.context() as broken:
            break_at(broken, fails)
            with pytest.raises(ZeroDivisionError):
                lab.calibrated()
        assert lab._quantizer.states() == former
        assert dict(lab._quantizer._layers) == layers
        with unchanged(lab):
            assert loss(lab) == expected


def break_at(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Let the building of a layer fail from the call number ``last`` on, whoever builds."""
    calls: list[int] = []

    def failing(build: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **settings: Any) -> Any:
            calls.append(1)
            if len(calls) >= last:
                raise ZeroDivisionError
            return build(*arguments, **settings)

        return made

    for module in (stages, decisions, fisher_data):
        monkeypatch.setattr(module, "build_layer", failing(module.build_layer))
