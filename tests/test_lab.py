"""Lab end to end on the built-in model, on a plain MLP and on a small ViT: results, undo, failure, two threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.engine.quantize import quantize
from quantlab.engine.recipe import Recipe
from quantlab.errors import CheckpointError, JobCancelledError, NumericError, RecipeError, SceneError
from quantlab.jobs import Job
from quantlab.lab import INTERACTIVE_SECONDS, Lab
from quantlab.models.layers import Block
from quantlab.models.zoo import load_model
from quantlab.scenes.synthetic import rooms

FC2 = "aggregator.global_blocks.1.mlp.fc2"


@pytest.fixture(scope="module")
def shared() -> Lab:
    calibration = rooms(2, views=2, seed=11, split="calibration")
    return Lab(load_model("mini"), calibration=calibration, evaluation=rooms(1, views=2, seed=12))


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    shared.recipe = Recipe.preset("rtn")
    yield shared
    shared.recipe = Recipe.preset("rtn")


def test_a_small_network_stays_interactive_where_the_machine_is_busy_with_other_things(monkeypatch) -> None:
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: 1e6 * real())
    lab = Lab(Mlp(), calibration=[torch.randn(9, 12)], evaluation=[torch.randn(9, 12)])
    assert lab.reference().seconds > INTERACTIVE_SECONDS
    assert lab.interactive


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SmallViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.blocks = nn.ModuleList(Block(16, 2) for _ in range(3))
        self.head = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(1))


def test_every_layer_of_mini_gets_a_profile_with_its_token_kinds(lab: Lab) -> None:
    profile = lab.profile()
    assert set(profile.layers) == set(lab.structure.layers) - {
        name for name in lab.structure.layers if name.startswith("track_head")
    }
    assert {"camera", "register", "patch"} <= set(profile.layers[FC2].tokens)
    assert lab.profile() is profile


def test_the_full_precision_recipe_changes_nothing_bit_for_bit(lab: Lab) -> None:
    lab.recipe = Recipe.preset("full_precision")
    drift = lab.evaluate().full_precision
    assert drift.point_error == 0
    assert lab.compare().point_error == 0
    assert set(drift.outputs.values()) == {0.0}


def test_more_bits_drift_less_and_the_left_cloud_never_moves(lab: Lab) -> None:
    errors = []
    left = lab.compare().left.points.copy()
    for bits in (4, 6, 8):
        lab.recipe = Recipe.preset("rtn", weights=bits, activations=bits)
        comparison = lab.compare()
        errors.append(comparison.point_error)
        assert np.array_equal(comparison.left.points, left)
    assert errors[0] > errors[1] > errors[2] > 0


def test_a_cached_edit_gives_the_result_of_a_fresh_lab(lab: Lab) -> None:
    lab.evaluate()
    lab.set(FC2, rotation="hadamard", smoothing=0.5)
    fresh = Lab(lab.model, calibration=lab.calibration, evaluation=lab.evaluation, recipe=lab.recipe)
    mine, theirs = lab.evaluate().full_precision, fresh.evaluate().full_precision
    assert mine.point_error == theirs.point_error
    assert mine.outputs == theirs.outputs


def test_undo_and_redo_restore_recipe_and_numbers(lab: Lab) -> None:
    before = lab.evaluate()
    lab.set(FC2, keep=True)
    after = lab.evaluate()
    assert after.full_precision != before.full_precision
    lab.undo()
    assert lab.recipe == Recipe.preset("rtn")
    assert lab.evaluate().full_precision == before.full_precision
    lab.redo()
    assert lab.evaluate().full_precision == after.full_precision
    assert not lab.can_redo


def test_a_diagnosis_covers_every_branch_and_quantized_layer(lab: Lab) -> None:
    diagnosis = lab.diagnose()
    assert set(diagnosis.branches) == set(lab.structure.branches)
    assert all(diagnosis.layers[name] > 0 for name in lab.plan().quantized)


def test_a_layer_view_has_the_steps_of_its_settings(lab: Lab) -> None:
    lab.set(FC2, rotation="hadamard", smoothing=0.5)
    view = lab.layer(FC2)
    assert {"raw", "rotated", "smoothed", "quantized"} <= set(view.steps)
    assert view.output_error > 0
    with pytest.raises(RecipeError, match="no layer"):
        lab.layer("no.such.layer")


@pytest.mark.bad_input
def test_a_bad_setting_changes_nothing(lab: Lab) -> None:
    before, length = lab.recipe, len(lab.history)
    for bad in ({"weights": 9}, {"rotation": "x.py:Y"}, {"no_such": 1}):
        with pytest.raises(RecipeError):
            lab.set(FC2, **bad)
    assert lab.recipe == before
    assert len(lab.history) == length


def test_a_cancelled_job_leaves_the_former_state_and_the_next_one_works(lab: Lab) -> None:
    lab.evaluate()
    lab.set("*.frame_blocks.0.*", keep=True)
    job = Job(listener=lambda running: running.cancel())
    with pytest.raises(JobCancelledError):
        lab.evaluate(job=job)
    assert lab.recipe.rules
    assert lab.evaluate().full_precision.point_error is not None
    assert all(not module._forward_pre_hooks for module in lab.model.network.modules())


def test_listeners_hear_of_changes_and_can_leave(lab: Lab) -> None:
    heard: list[Recipe] = []
    leave = lab.subscribe(heard.append)
    lab.set(FC2, keep=True)
    leave()
    lab.undo()
    assert len(heard) == 1


def test_two_threads_get_the_numbers_of_one(lab: Lab) -> None:
    expected = lab.evaluate().full_precision
    lab.set(FC2, keep=True)
    lab.undo()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(lab.evaluate().full_precision)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected, expected]


@pytest.mark.parametrize(("module", "shape"), [(Mlp(), (9, 12)), (SmallViT(), (2, 3, 16, 16))])
def test_any_torch_module_is_a_lab(module: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(*shape) for _ in range(3)]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    lab = Lab(module, calibration=inputs, evaluation=inputs[:1], recipe=Recipe.preset("rtn", scope="linears"))
    assert len(lab.profile().layers) >= 2
    coarse = lab.evaluate().full_precision.outputs["output"]
    lab.recipe = Recipe.preset("rtn", weights=8, activations=8, scope="linears")
    assert 0 < lab.evaluate().full_precision.outputs["output"] < coarse
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    with pytest.raises(SceneError, match="reconstruction"):
        lab.compare()


def test_a_vggt_that_is_not_ours_is_passed_as_it_is(lab: Lab) -> None:
    scene = lab.evaluation[0]
    recipe = Recipe.preset("quarot")
    bare = Lab(lab.model.network, calibration=[scene], evaluation=[scene], recipe=recipe)
    ours = Lab(lab.model, calibration=[scene], evaluation=[scene], recipe=recipe)
    assert bare.compare().point_error == pytest.approx(ours.compare().point_error)
    assert bare.evaluate().ground_truth == ours.evaluate().ground_truth
    assert {"camera", "register", "patch"} <= set(bare.profile().layers[FC2].tokens)


def test_a_predict_function_says_how_a_module_is_run() -> None:
    module = Mlp()
    lab = Lab(
        module,
        calibration=[{"x": torch.ones(4, 12)}],
        predict=lambda network, batch: {"twice": 2 * network(batch["x"])},
    )
    assert set(lab.evaluate().full_precision.outputs) == {"twice"}


@pytest.mark.bad_input
def test_a_pattern_that_matches_nothing_is_a_slip_and_is_refused(lab: Lab) -> None:
    before = lab.recipe
    with pytest.raises(RecipeError, match=r"matches nothing.*global_blocks"):
        lab.set("aggregator.globl_blocks.1.mlp.fc2", keep=True)
    assert lab.recipe == before


@pytest.mark.bad_input
def test_what_is_no_model_no_recipe_or_no_scene_is_refused_in_words(lab: Lab) -> None:
    with pytest.raises(CheckpointError, match="str is no model"):
        Lab("mini")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="int is no recipe"):
        lab.recipe = 3  # type: ignore[assignment]
    with pytest.raises(RecipeError, match="str is no recipe"):
        quantize(Mlp(), "rtn")  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="no such scene"):
        Lab(lab.model, "demmo")


def test_scenes_may_be_named_and_a_lab_says_what_it_is(lab: Lab) -> None:
    named = Lab(lab.model, evaluation="rooms:1")
    assert len(named.evaluation) == 1
    assert repr(named).startswith("Lab('mini', ")
    assert (
        max(len(repr(thing)) for thing in (lab.evaluation[0], lab.profile(), lab.profile().worst(1)[0])) < 160
    )


def test_a_module_in_training_mode_stays_so() -> None:
    module = Mlp().train()
    Lab(module, calibration=[torch.ones(4, 12)]).evaluate()
    assert module.training


@pytest.mark.bad_input
def test_a_nan_in_a_weight_names_the_layer() -> None:
    module = Mlp()
    with torch.no_grad():
        module.layers[2].weight[0, 0] = float("nan")
    lab = Lab(module, calibration=[torch.ones(4, 12)], recipe=Recipe.preset("rtn", scope="linears"))
    with pytest.raises(NumericError, match=r"layers\.2"):
        lab.evaluate()


@pytest.mark.bad_input
def test_a_bare_module_without_input_is_refused() -> None:
    with pytest.raises(SceneError, match="calibration"):
        Lab(Mlp())


def test_another_recipe_can_be_asked_about_and_the_one_in_force_stays(lab: Lab) -> None:
    other = Recipe.preset("rtn", weights=8, activations=8)
    history, now = lab.history, lab.evaluate()
    asked = lab.evaluate(recipe=other)
    assert lab.compare(recipe=other).point_error < lab.compare().point_error
    assert lab.recipe != other
    assert lab.history == history
    lab.recipe = other
    assert lab.evaluate() == asked != now
    lab.undo()
