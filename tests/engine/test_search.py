"""The knapsack against brute force, budgets as typed, recipes that say what was chosen, and the whole search."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import quantlab as ql
from quantlab.engine.additive import front, optimum
from quantlab.engine.bit_rules import weight_bits, with_bits
from quantlab.engine.budget import budget_bytes, budget_microseconds, check_budget, is_latency
from quantlab.engine.knapsack import exact, greedy, greedy_path, hull
from quantlab.engine.measurement import Measurement
from quantlab.engine.plan import plan
from quantlab.engine.prices import Prices
from quantlab.engine.recipe import Recipe
from quantlab.engine.refine import refined
from quantlab.engine.scan import Ask, without_fragile
from quantlab.engine.search import Wish, search
from quantlab.engine.search_record import Check, Sensitivity
from quantlab.errors import JobCancelledError, RecipeError
from quantlab.jobs import Job
from quantlab.models.structure import BlockInfo, LayerInfo, Structure

ERRORS = st.floats(0, 100).map(lambda error: round(error, 9)) | st.just(float("inf"))
OPTIONS = st.lists(
    st.tuples(st.integers(0, 12), ERRORS),
    min_size=1,
    max_size=4,
)
LAYERS = st.lists(OPTIONS, min_size=1, max_size=4)


def brute(layers, budget):
    """The smallest error of all choices that fit; infinite where none does."""
    totals = (
        sum(error for _, error in chosen)
        for chosen in product(*layers.values())
        if sum(size for size, _ in chosen) <= budget
    )
    return min(totals, default=float("inf"))


@settings(max_examples=150, deadline=None)
@given(options=LAYERS, budget=st.integers(0, 40), unit=st.sampled_from([1, 7, 96]))
def test_the_exact_programme_finds_what_trying_everything_finds(options, budget, unit):
    layers = {f"l{index}": [(size * unit, error) for size, error in own] for index, own in enumerate(options)}
    found, best = exact(layers, budget * unit), brute(layers, budget * unit)
    if best == float("inf"):
        assert found is None
    else:
        assert found.error == pytest.approx(best, abs=1e-9)
        assert found.bytes <= budget * unit
        picked = [layers[name][index] for name, index in found.picks.items()]
        assert found.bytes == sum(size for size, _ in picked)


@settings(max_examples=100, deadline=None)
@given(options=LAYERS, budget=st.integers(0, 40))
def test_greedy_stays_within_the_budget_and_is_never_better_than_exact(options, budget):
    layers = {f"l{index}": own for index, own in enumerate(options)}
    quick, best = greedy(layers, budget), exact(layers, budget)
    if quick is not None:
        assert quick.bytes <= budget
        assert best.error <= quick.error + 1e-9


@settings(max_examples=100, deadline=None)
@given(options=LAYERS)
def test_every_stop_of_the_greedy_path_is_the_best_of_its_size(options):
    layers = {f"l{index}": own for index, own in enumerate(options)}
    for stop in greedy_path(layers):
        assert stop.error == pytest.approx(brute(layers, stop.bytes), abs=1e-9)


@given(options=OPTIONS)
def test_the_hull_costs_more_and_gains_less_at_every_corner(options):
    corners = [options[index] for index in hull(options)]
    gains = [(a[1] - b[1]) / (b[0] - a[0]) for a, b in pairwise(corners)]
    assert all(gain > 0 for gain in gains)
    assert all(one > other for one, other in pairwise(gains))


def test_a_problem_too_fine_to_count_byte_by_byte_still_fits_and_is_nearly_best():
    random = np.random.default_rng(0)
    layers = {
        f"l{index}": [
            (int(size), float(error))
            for size, error in zip(random.integers(1, 10**9, 4), random.random(4), strict=True)
        ]
        for index in range(5)
    }
    budget = 2 * 10**9
    found = exact(layers, budget)
    assert found.bytes <= budget
    assert found.error <= brute(layers, budget - 5 * (budget >> 20) - 5) + 1e-12


# -- what people type --------------------------------------------------------------------------------------------


def make_structure(blocks=3):
    layers, infos = {}, {}
    for index in range(blocks):
        own = []
        for kind in ("fc1", "fc2"):
            name = f"trunk.{index}.mlp.{kind}"
            layers[name] = LayerInfo(name, kind, "frame", f"trunk.{index}", index, 8, 16, 144, "linear")
            own.append(name)
        infos[f"trunk.{index}"] = BlockInfo(f"trunk.{index}", "frame", index, tuple(own), ())
    layers["head.fc"] = LayerInfo("head.fc", "fc", "head", "", -1, 8, 4, 36, "linear")
    return Structure(layers, {}, infos)


def make_scan(structure, *, points=64, seed=0, options=(2, 4, 8, 16)):
    """Invented errors that fall fourfold with each bit, unevenly over layers and points."""
    random = np.random.default_rng(seed)
    recipe = Recipe.preset("rtn", weights=4, activations=8)
    names = [name for name in structure.layers if name != "head.fc"]
    shapes = {name: random.gamma(1.0, size=points) * 10 ** random.uniform(-6, -3) for name in names}
    grid = {
        name: {
            bits: np.float32(0 if bits == 16 else 4.0**-bits) * shapes[name].astype(np.float32)
            for bits in options
        }
        for name in names
    }
    sizes = {
        bits: plan(structure, with_bits(recipe, structure, dict.fromkeys(names, bits), vary="weights")).layers
        for bits in options
    }
    return Sensitivity(
        recipe=recipe,
        mode="alone",
        vary="weights",
        bits=options,
        drifts={name: {b: float(np.sqrt(e).mean()) for b, e in own.items()} for name, own in grid.items()},
        squares={name: {b: float(e.mean()) for b, e in own.items()} for name, own in grid.items()},
        points=grid,
        base=np.zeros(points, np.float32),
        bytes={name: {bits: sizes[bits][name].bytes for bits in options} for name in names},
        fixed_bytes=sizes[4]["head.fc"].bytes,
        now=dict.fromkeys(names, 4),
        scenes=("one",),
    )


def test_budgets_are_whole_networks_in_bytes_and_quantized_layers_in_percent():
    scan = make_scan(make_structure())
    eight = scan.size(scan.uniform(8))
    assert budget_bytes(eight, scan) == eight
    assert budget_bytes("0.01 MB", scan) == 10_000
    assert budget_bytes(" 5 KiB ", scan) == 5120
    assert budget_bytes("100%", scan) == eight
    assert budget_bytes("75%", scan) == scan.fixed_bytes + (eight - scan.fixed_bytes) * 75 // 100
    assert budget_bytes(None, scan) == scan.size(scan.now)


def test_a_time_is_a_budget_and_one_that_is_too_short_says_what_the_fastest_takes():
    scan = make_scan(make_structure())
    priced = Prices(scan.bytes, 500).instead(scan)
    fastest = priced.size(priced.uniform(2))
    asked = ("20 ms", "0.5 s", "20 MB", 20, None)
    assert [is_latency(budget) for budget in asked] == [True, True, False, False, False]
    assert budget_microseconds(f"{fastest} us", priced) == fastest
    assert budget_microseconds("2 s", priced) == 2_000_000
    assert budget_microseconds("1 us or fastest", priced) == fastest
    assert budget_microseconds("2 s or fastest", priced) == 2_000_000
    with pytest.raises(RecipeError, match="the fastest choice of bits takes") as caught:
        budget_microseconds(f"{fastest - 1} us", priced)
    assert budget_microseconds(caught.value.remedy.split("for ")[1].split(" or")[0], priced) >= fastest
    with pytest.raises(RecipeError, match="no size"):
        budget_bytes("20 ms", scan)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "budget", ["", "much", "-3 MB", "4 parsec", "30 fps", 0.5, True, [], "1e99 MB", "9 MB or fastest"]
)
def test_what_is_no_size_is_refused(budget):
    with pytest.raises(RecipeError, match="no size"):
        check_budget(budget)


def test_a_budget_below_the_smallest_recipe_says_what_that_weighs():
    scan = make_scan(make_structure())
    smallest = scan.size(scan.uniform(2))
    with pytest.raises(RecipeError, match="cannot be reached") as caught:
        budget_bytes(smallest - 1, scan)
    assert f"{-(-smallest // 1000) / 1000:.3f} MB" in caught.value.remedy
    assert budget_bytes(smallest, scan) == smallest


# -- recipes -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data(), vary=st.sampled_from(["weights", "both"]))
def test_a_recipe_gives_exactly_the_bits_it_was_made_for_and_changes_nothing_else(data, vary):
    structure = make_structure(data.draw(st.sampled_from([1, 3, 12])))
    recipe = Recipe.preset("quarot", weights=4, activations=8)
    if data.draw(st.booleans()):
        recipe = recipe.set("trunk.0", weights=3, smoothing=0.5).set("head.fc", weights=6, activations=8)
    names = list(weight_bits(recipe, structure))
    bits = {name: data.draw(st.sampled_from([2, 4, 8, 16])) for name in names}
    made = with_bits(recipe, structure, bits, vary=vary)
    before, after = recipe.layers(structure), made.layers(structure)
    assert weight_bits(made, structure) == bits
    for name, asked in after.items():
        if name in bits:
            inputs = 16 if bits[name] == 16 else bits[name] if vary == "both" else before[name].activations
            assert asked.activations == inputs
        assert (asked.smoothing, asked.rotation, asked.keep) == (
            before[name].smoothing,
            before[name].rotation,
            before[name].keep,
        )


def test_equal_bits_need_no_rule_and_a_kind_of_layer_needs_one():
    structure = make_structure(8)
    recipe = Recipe.preset("rtn", weights=4, activations=8)
    names = list(weight_bits(recipe, structure))
    assert with_bits(recipe, structure, dict.fromkeys(names, 3), vary="weights").rules == ()
    mixed = {name: 6 if name.endswith("fc2") else 3 for name in names}
    assert len(with_bits(recipe, structure, mixed, vary="weights").rules) == 1
    odd = {name: 8 if name in {"trunk.1.mlp.fc1", "trunk.5.mlp.fc1"} else 3 for name in names}
    (rule,) = with_bits(recipe, structure, odd, vary="weights").rules
    assert rule.pattern == "trunk.[15].mlp.fc1"


def test_choosing_bits_again_leaves_no_trace_of_the_first_choice():
    structure = make_structure()
    recipe = Recipe.preset("rtn", weights=4, activations=8)
    names = list(weight_bits(recipe, structure))
    once = with_bits(recipe, structure, dict.fromkeys(names, 8), vary="weights")
    mixed = {name: (2, 3, 16, 8, 4, 6)[index] for index, name in enumerate(names)}
    detour = with_bits(recipe, structure, mixed, vary="weights")
    assert with_bits(detour, structure, dict.fromkeys(names, 8), vary="weights") == once


# -- the sum over layers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_of_the_sum_is_near_the_best_of_all_choices(seed):
    scan = make_scan(make_structure(2), seed=seed)
    names = list(scan.bytes)
    room = scan.size(scan.now) - scan.fixed_bytes
    choices = (dict(zip(names, own, strict=True)) for own in product(scan.bits, repeat=len(names)))
    best = min(scan.predict(bits) for bits in choices if scan.size(bits) - scan.fixed_bytes <= room)
    found = optimum(scan, room)
    assert scan.size(found) - scan.fixed_bytes <= room
    assert scan.predict(found) <= 1.02 * best
    assert scan.predict(found) <= scan.predict(scan.now)


def test_the_front_grows_in_size_and_falls_in_error():
    scan = make_scan(make_structure())
    found = front(scan, 10)
    sizes, errors = [scan.size(bits) for bits in found], [scan.predict(bits) for bits in found]
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)
    assert sizes[0] == scan.size(scan.uniform(2))
    assert errors[-1] == 0


def test_refining_never_makes_worse_keeps_the_size_and_finds_what_the_sum_does_not_know():
    scan = make_scan(make_structure())
    start = optimum(scan, scan.size(scan.now) - scan.fixed_bytes)
    secret = "trunk.2.mlp.fc1"

    def truth(bits, _text, _job):
        return [scan.predict(bits) + (0.0 if bits[secret] == 8 else 1.0)]

    room = scan.size(scan.now) - scan.fixed_bytes
    best = refined(start, scan, room, truth, tries=200, seed=0)
    assert scan.size(best) - scan.fixed_bytes <= room
    assert best[secret] == 8
    assert truth(best, "", None) <= truth(start, "", None)
    assert refined(start, scan, room, truth, tries=20, seed=3) == refined(
        start, scan, room, truth, tries=20, seed=3
    )
    assert refined(start, scan, room, truth, tries=0, seed=0) == start


def test_a_check_of_the_sum_ranks_and_scales():
    check = Check((1.0, 2.0, 3.0, 4.0), (2.0, 4.0, 6.0, 8.0))
    assert check.spearman == pytest.approx(1.0)
    assert check.ratio == pytest.approx(2.0)
    assert Check((1.0, 2.0, 3.0), (3.0, 2.0, 1.0)).spearman == pytest.approx(-1.0)
    assert Check((1.0, 2.0), (1.0, 2.0)).spearman is None
    assert Check((), ()).ratio is None


# -- the whole of it ---------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    def __init__(self, width=16, blocks=3):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture(scope="module")
def lab():
    torch.manual_seed(0)
    network = Net()
    with torch.no_grad():
        network.blocks[1].mlp[2].weight.mul_(8.0)  # a layer that matters more than the others
    return ql.Lab(
        network,
        calibration=[torch.randn(1, 12, 16) for _ in range(3)],
        recipe=Recipe.preset("rtn", weights=4, activations=8),
    )


@pytest.fixture(scope="module")
def found(lab):
    return lab.search("55%", tries=6)


def test_a_search_keeps_the_budget_and_beats_equal_bits_of_no_more_bytes(lab, found):
    assert found.chosen.bytes <= found.budget
    assert plan(lab.structure, found.chosen.recipe).bytes == found.chosen.bytes
    smaller = [one for one in (*found.uniform, found.current) if one.bytes <= found.budget]
    assert smaller
    assert all(found.chosen.verified.drift <= one.verified.drift for one in smaller)
    assert found.chosen.bits["blocks.1.mlp.2"] >= max(found.chosen.bits.values()) - 2


def test_corrections_that_other_bits_bring_are_part_of_the_budget(lab):
    recipe = lab.recipe.set("*.mlp", compensation="on").set("blocks.0.*", weights=16, activations=16)
    given = ql.Lab(lab.model, calibration=lab.calibration, recipe=recipe)
    equal = recipe.set("blocks.0.*", weights=3, activations=8).set("*", weights=3)
    budget = plan(given.structure, equal).bytes
    found = given.search(budget, bits=(3, 4), tries=0)
    assert found.chosen.bytes == plan(given.structure, found.chosen.recipe).bytes <= budget
    with pytest.raises(RecipeError, match="so small"):
        given.search(budget - 1, bits=(3, 4), tries=0)


def test_a_search_leaves_the_recipe_in_force_alone_and_its_result_can_be_put_in_force(lab, found):
    assert lab.recipe == Recipe.preset("rtn", weights=4, activations=8)
    assert len(lab.history) == 1
    lab.recipe = found.chosen.recipe
    assert weight_bits(lab.recipe, lab.structure) == found.chosen.bits
    lab.undo()
    assert lab.recipe == found.sensitivity.recipe


@torch.no_grad()
def test_what_was_verified_is_what_the_network_gives(lab, found):
    network = ql.quantize(lab.model, found.chosen.recipe)
    errors = []
    for given_input in lab.calibration:
        exact_output, output = lab.model.eval()(given_input), network(given_input)
        errors.append(float((output - exact_output).norm() / exact_output.norm()))
    assert found.chosen.verified.drift == pytest.approx(np.mean(errors), rel=1e-4)


def test_equal_searches_are_equal_and_say_so_as_plain_data(lab, found):
    again = lab.search("55%", tries=6)
    assert again.chosen == found.chosen
    plain = found.to_dict()
    assert ql.Recipe.from_dict(plain["chosen"]["recipe"]) == found.chosen.recipe
    assert plain["budget"] == found.budget


def test_a_stopped_search_leaves_the_lab_as_it_was(lab):
    job = Job()
    job.cancel()
    with pytest.raises(JobCancelledError):
        lab.search("60%", bits=(3, 5), job=job)
    assert lab.recipe == Recipe.preset("rtn", weights=4, activations=8)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "asked", [{"tries": -1}, {"bits": (1,)}, {"bits": ()}, {"mode": "both"}, {"vary": "x"}, {"scenes": 0}]
)
def test_what_cannot_be_searched_is_refused(lab, asked):
    with pytest.raises(RecipeError) as caught:
        lab.search(**asked)
    assert caught.value.remedy


def test_where_bits_are_searched_the_data_keep_no_block_besides():
    recipe = Recipe.preset("qvggt").set("*.attn", fragile=0.5).set("*.mlp", weights=6, fragile=0.5)
    plain = without_fragile(recipe)
    assert "fragile" not in plain.defaults
    assert [(rule.pattern, dict(rule.settings)) for rule in plain.rules] == [("*.mlp", {"weights": 6})]


def test_a_search_by_time_keeps_the_time_takes_what_was_measured_and_times_the_result(lab):
    asked = []

    def clock(*, recipe, job=None):
        """A machine on which 4 bits are twice as fast as 8, and these than full precision."""
        asked.append(recipe)
        widths = {name: own.weights for name, own in recipe.layers(lab.structure).items() if not own.keep}
        layers = {name: {4: 1e-4, 8: 2e-4, 16: 4e-4}[bits] for name, bits in widths.items()}
        full = dict.fromkeys(widths, 4e-4)
        seconds = 1e-3 + sum(layers.values())
        passes = {"fastest": seconds - 1e-4, "slowest": seconds + 1e-4}
        return Measurement(seconds, 1.0, None, 3, 0, 0, **passes, layers=layers, full_layers=full)

    limit = 1e-3 + 1e-4 * (len(weight_bits(lab.recipe, lab.structure)) + 1)
    wish = Wish(f"{1e6 * limit:.0f} us", Ask(bits=(4, 8), scenes=1), tries=2, verify=1)
    with lab._trying() as trials:
        found = search(trials, lab.recipe, wish, clock=clock)
    assert found.budget_seconds == pytest.approx(limit)
    assert found.chosen.timed == pytest.approx(found.chosen.seconds)
    assert found.chosen.seconds <= 1.000001 * limit
    assert (found.asked_seconds, found.spread_seconds) == (found.budget_seconds, pytest.approx(2e-4))
    assert asked[-1] == found.chosen.recipe
    assert sum(bits > 4 for bits in found.chosen.bits.values()) <= 1
    fitting = [one for one in found.everything if one.verified and one.seconds <= 1.000001 * limit]
    assert found.chosen.verified.drift == min(one.verified.drift for one in fitting)
