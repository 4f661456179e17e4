"""How long a search says it takes, and how far it says it is, on a clock of the test's own; every pass is counted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import quantlab as ql
from quantlab.engine.bit_rules import weight_bits
from quantlab.engine.recipe import Recipe
from quantlab.engine.scan import Ask, scan
from quantlab.engine.search import Wish, search
from quantlab.engine.search_passes import ALONE, Pace, Passes, scan_passes, search_passes
from quantlab.engine.search_record import Measured
from quantlab.jobs import Job

SCENES, VERIFY = 2, 4


def run(seconds, replayed=0):
    return SimpleNamespace(seconds=seconds, replayed=replayed)


def test_a_pass_takes_the_median_of_those_that_were_not_replayed_and_not_the_first():
    pace = Pace()
    assert pace.seconds is None
    pace.noted(run(9.0))
    assert pace.seconds == 9.0
    for one in (run(0.01, replayed=8), run(2.0), run(1.0), run(7.0), run(0.02, replayed=1)):
        assert pace.noted(one) is one
    assert pace.seconds == 2.0


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=200))
def test_the_pace_lies_among_the_passes_however_many_there_were(seconds):
    pace = Pace()
    for one in seconds:
        pace.noted(run(one))
    assert min(seconds[1:]) <= pace.seconds <= max(seconds[1:])


class Timed:
    """Trials on a clock of their own: a single layer takes `ALONE` of what a whole recipe takes; nothing is run."""

    def __init__(self, structure, job):
        self.structure, self._job = structure, job
        self.now, self._known, self.told = 0.0, {}, []
        self.single = self.whole = 0

    def scenes(self, count):
        return tuple(map(str, range(count)))

    def release(self):
        pass

    def measure(self, recipe, scenes, job=None, *, text="", once=False):
        if (recipe, scenes) not in self._known:
            self.told.append((self.now, self._job.fraction))
            alone = once and " bits" in text
            if alone:
                self.single += scenes
            elif text:  # full precision has no text, and is answered from memory
                self.whole += scenes
            self.now += scenes * (ALONE if alone else bool(text))
            points = np.random.default_rng(len(self._known)).random(8).astype(np.float32)
            self._known[recipe, scenes] = Measured(
                float(points.mean()), 0.1, points, tuple(map(float, points[:scenes]))
            )
        return self._known[recipe, scenes]


@pytest.fixture(scope="module")
def structure():
    network = nn.Sequential(*(nn.Linear(16, 16) for _ in range(16)))
    return ql.Lab(network, calibration=[torch.zeros(1, 16)]).structure


def searched(structure, recipe, tries):
    """A search on trials that only count, and what it should have come to."""
    job = Job()
    trials, ask = Timed(structure, job), Ask(scenes=SCENES)
    now = weight_bits(recipe, structure)
    search(trials, recipe, Wish("50%", ask, tries, verify=VERIFY), job)
    costly = recipe.defaults.get("reconstruction", "none") != "none"
    return trials, search_passes(now, ask, tries=tries, verify=VERIFY, costly=costly)


@pytest.mark.parametrize("tries", [0, 12, 24])
def test_a_search_runs_the_passes_it_was_told_to_take_or_few_less(structure, tries):
    trials, asked = searched(structure, Recipe.preset("rtn", weights=4, activations=8), tries)
    assert trials.single == asked.single
    # A recipe that two stages have in common is run once; the front may hold fewer points than are run of it.
    assert 0.75 * asked.whole <= trials.whole <= asked.whole
    assert trials.now == pytest.approx(asked.seconds(1.0), rel=0.2)


@pytest.mark.parametrize("tries", [0, 24])
def test_a_search_is_as_far_as_its_time_is_spent(structure, tries):
    trials, _ = searched(structure, Recipe.preset("rtn", weights=4, activations=8), tries)
    shares = [(now / trials.now, told) for now, told in trials.told]
    assert max(abs(spent - told) for spent, told in shares) < 0.1
    fractions = [told for _, told in shares]
    assert fractions == sorted(fractions)


def test_a_scan_is_as_far_as_its_time_is_spent(structure):
    job, recipe = Job(), Recipe.preset("rtn", weights=6, activations=8)
    trials = Timed(structure, job)
    scan(trials, recipe, Ask((2, 3, 4), scenes=SCENES), job)
    asked = scan_passes(weight_bits(recipe, structure), Ask((2, 3, 4), scenes=SCENES))
    assert (trials.single, trials.whole) == (asked.single, asked.checks)
    assert asked.single == 16 * 4 * SCENES, "the bits in force are measured besides the options"
    assert max(abs(now / trials.now - told) for now, told in trials.told) < 0.1


def test_where_whole_recipes_learn_few_are_counted():
    now, ask = {"a": 4, "b": 4}, Ask()
    few, many = (search_passes(now, ask, tries=24, verify=8, costly=costly) for costly in (True, False))
    assert few.single == many.single
    assert sum(few.stages) == 8 * 4 < sum(many.stages) == 8 * 40
    assert len(few.stages) == len(many.stages)


def test_a_single_layer_counts_for_less_than_a_whole_recipe():
    assert Passes(100, 8, (2,)).seconds(2.0) == pytest.approx(2.0 * (100 * ALONE + 10))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))

    def forward(self, x):
        return x + self.mlp(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_a_lab_knows_its_pace_from_whole_passes_and_an_edit_of_the_last_block_says_nothing_of_it():
    given = [torch.randn(1, 12, 16)]
    lab = ql.Lab(Net(), calibration=given, evaluation=given, recipe=Recipe.preset("rtn", weights=4))
    assert lab.pace is None
    first = lab.reference()
    assert lab.pace == first.seconds
    whole = lab.quantized()
    assert (whole.replayed, lab.pace) == (0, whole.seconds)
    lab.set("blocks.2.mlp.2", weights=8)
    assert lab.quantized().replayed == 2
    assert lab.pace == whole.seconds
