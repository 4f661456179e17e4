"""A scan of single layers against doing it by hand, what it may look at, and what it leaves out and says so."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.engine import scan as scanning
from quantlab.engine.recipe import Recipe
from quantlab.engine.scan import simplified
from quantlab.errors import JobCancelledError, RecipeError
from quantlab.jobs import Job
from quantlab.scenes.synthetic import rooms


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        return x + self.mlp(x)


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def make_lab(recipe=None, scenes=2):
    torch.manual_seed(0)
    inputs = [torch.randn(1, 12, 16) for _ in range(scenes)]
    return ql.Lab(Net(), calibration=inputs, recipe=recipe or Recipe.preset("rtn", weights=4, activations=8))


@pytest.fixture(scope="module")
def lab():
    return make_lab()


@torch.no_grad()
def by_hand(lab, recipe):
    """Mean relative output error of a recipe over the calibration inputs."""
    network = ql.quantize(lab.model, recipe)
    pairs = [(lab.model.eval()(given), network(given)) for given in lab.calibration]
    return float(np.mean([float((b - a).norm() / a.norm()) for a, b in pairs]))


def test_a_layer_alone_is_measured_as_by_hand(lab):
    scan = lab.scan(bits=(2, 4))
    for name in lab.structure.layers:
        recipe = lab.recipe.set("*", keep=True).set(name, keep=False, weights=2)
        assert scan.drifts[name][2] == pytest.approx(by_hand(lab, recipe), rel=1e-4)
        assert scan.drifts[name][16] == 0
        assert scan.squares[name][2] > scan.squares[name][4] > 0


def test_a_restored_layer_is_measured_as_by_hand(lab):
    scan, whole = lab.scan(bits=(4,), mode="restored"), by_hand(lab, lab.recipe)
    for name in lab.structure.layers:
        restored = by_hand(lab, lab.recipe.set(name, weights=16, activations=16))
        assert scan.drifts[name][16] == pytest.approx(restored - whole, abs=1e-6)
        assert scan.drifts[name][4] == 0
    assert scan.predict(scan.now) == pytest.approx(whole, rel=1e-4)


def test_the_most_sensitive_layer_comes_first(lab):
    scan = lab.scan(bits=(2, 4))
    ranked = scan.ranked(2)
    assert [value for _, value in ranked] == sorted((value for _, value in ranked), reverse=True)
    assert {name for name, _ in ranked} == set(lab.structure.layers)


def test_bytes_are_those_of_the_plan(lab):
    scan = lab.scan(bits=(2, 4))
    assert scan.size(scan.now) == lab.plan().bytes
    assert scan.size(scan.uniform(16)) == lab.plan().full_bytes


def test_inputs_get_the_same_bits_where_both_vary(lab):
    scan = lab.scan(bits=(4,), vary="both")
    name = next(iter(lab.structure.layers))
    recipe = lab.recipe.set("*", keep=True).set(name, keep=False, weights=4, activations=4)
    assert scan.drifts[name][4] == pytest.approx(by_hand(lab, recipe), rel=1e-4)


def test_the_sum_is_set_against_the_truth(lab):
    check = lab.scan(bits=(3, 4, 6, 8)).check
    assert len(check.predicted) == len(check.measured) >= 3
    assert check.spearman > 0.7
    assert 0.5 < check.ratio < 2


def test_nothing_is_run_twice_for_another_recipe_of_the_same_method(lab, monkeypatch):
    lab.scan(bits=(3, 6))
    ran = []
    measure = lab._trials._measure
    monkeypatch.setattr(
        lab._trials, "_measure", lambda *given, **more: ran.append(given) or measure(*given, **more)
    )
    lab.recipe = lab.recipe.set("blocks.0", weights=6)
    lab.scan(bits=(3, 6))
    lab.undo()
    assert len(ran) == 0


def test_a_scan_that_was_stopped_goes_on_where_it_was():
    lab, job = make_lab(), Job()
    count = 0

    def stop(self):
        nonlocal count
        count += 1
        if count > 40:
            self.cancel()

    with pytest.raises(JobCancelledError):
        lab.scan(bits=(2, 3, 4), job=Job(stop))
    known = len(lab._trials._known)
    assert known > 0
    lab.scan(bits=(2, 3, 4), job=job)
    assert len(lab._trials._known) > known
    assert job.fraction == pytest.approx(1.0, abs=0.05)


def test_single_trials_store_no_block_and_nothing_is_held_once_the_scan_is_over(monkeypatch):
    lab, held = make_lab(), []
    one = scanning._Meter._one
    monkeypatch.setattr(
        scanning._Meter,
        "_one",
        lambda meter, *given: (held.append(lab._trials._cache.bytes), one(meter, *given))[1],
    )
    lab.scan(bits=(3, 6))
    assert held[0] > 0
    assert set(held) == {held[0]}
    assert lab._trials._cache.bytes == 0


def test_a_lab_is_freed_when_its_last_user_lets_go_of_it():
    lab = make_lab()
    lab.scan(bits=(3,))
    lab.evaluate()
    gone = [weakref.ref(lab), weakref.ref(lab._blocks)]
    gc.disable()
    try:
        del lab
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


def test_rooms_to_try_are_drawn_once_and_few_are_the_first_of_many():
    lab = ql.Lab(ql.load_model("mini"))
    few, many = lab._sources.to_try(2), lab._sources.to_try(6)
    assert many[:2] == few
    assert len(many) == 6
    assert all(one is other for one, other in zip(many, lab._sources.to_try(6), strict=True))


def test_held_out_rooms_are_never_searched_on():
    held_out = rooms(2, split="held-out", views=2)
    lab = ql.Lab(ql.load_model("mini"), calibration=held_out, evaluation=held_out)
    assert all("calibration" in name for name in lab._trials.scenes(2))
    assert not any("held-out" in name for name in lab._trials.scenes(4))


def test_what_needs_the_whole_network_is_left_out_of_single_trials_and_said():
    plain, notes = simplified(Recipe.preset("quantvggt"))
    assert plain.defaults["reconstruction"] == "none"
    assert any("learned" in note for note in notes)
    assert simplified(Recipe.preset("gptq")) == (Recipe.preset("gptq"), ())
    assert simplified(Recipe.preset("qvggt"))[0].defaults["fragile"] == 0


def test_a_recipe_that_keeps_everything_cannot_be_scanned():
    lab = make_lab(Recipe.preset("rtn", weights=4, activations=8).set("*", keep=True))
    with pytest.raises(RecipeError, match="keeps every layer") as caught:
        lab.scan()
    assert caught.value.remedy


def test_full_precision_can_be_searched_for_its_weights():
    lab = make_lab(Recipe.preset("full_precision"))
    scan = lab.scan(bits=(4, 8))
    assert scan.now == dict.fromkeys(lab.structure.layers, 16)
    assert all(own[4] > own[8] > 0 for own in scan.drifts.values())


def test_rounded_keys_and_values_are_part_of_every_prediction():
    room = rooms(1, split="calibration", views=2)
    recipe = Recipe.preset("rtn", weights=8, activations=16).set("*", kv_bits=2)
    lab = ql.Lab(ql.load_model("mini"), calibration=room, evaluation=room, recipe=recipe)
    names = list(lab.structure.layers)
    lab.recipe = recipe.set("*", keep=True).set(next(n for n in names if "global_blocks.0" in n), keep=False)
    scan = lab.scan(bits=(8,), scenes=1)
    rest = float(np.sqrt(scan.base).mean())
    assert rest > 0
    assert scan.predict(scan.uniform(16)) == pytest.approx(rest)
    assert lab._trials.measure(lab.recipe, 1).drift == pytest.approx(scan.predict(scan.now), rel=0.3)
