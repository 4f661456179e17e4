"""Scenes to learn from: what a pool holds and picks, and that no way leads from a held-out room into a recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from quantlab.app.workshop import ROOMS, Workshop
from quantlab.calibration.features import deep_blocks, scene_features
from quantlab.calibration.selection import METHODS
from quantlab.commands.setup import SceneChoice
from quantlab.engine.default_scenes import POOL_ROOMS, candidates, is_held_out, learnable
from quantlab.engine.quantize import quantize
from quantlab.engine.recipe import Recipe
from quantlab.engine.selection_settings import Selection
from quantlab.engine.subject import subject_of
from quantlab.errors import JobCancelledError
from quantlab.jobs import Job
from quantlab.lab import Lab
from quantlab.models.zoo import build_model
from quantlab.scenes.load import load_scene, load_scenes
from quantlab.scenes.synthetic import SPLITS, plan_room, room, rooms

TINY = {
    "aggregator": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}
LEARNS = {"smoothing": 0.5, "compensation": "on", "rank": 2}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_model("vggt", TINY).eval()


def small(count, split="held-out", seed=0, **settings):
    return rooms(count, views=2, size=16, split=split, seed=seed, **settings)


def identity(scene):
    """What tells one room from all others, whatever it is called."""
    return scene.truth.camera_from_world.tobytes()


def recipe(method="all", **settings):
    return Recipe(defaults={"weights": 4, "activations": 8, **LEARNS}).calibrated(method, **settings)


# ---- held-out rooms


def test_rooms_of_two_splits_never_coincide():
    seen = {}
    for split in SPLITS:
        for seed in (0, 1, 999, 1001, 2026):
            for index in range(12):
                plan = plan_room(index, seed=seed, split=split)
                seen.setdefault(plan.camera_from_world.tobytes(), set()).add(split)
    assert len(seen) == 3 * 5 * 12
    assert all(len(splits) == 1 for splits in seen.values())


def test_a_room_drawn_alone_is_the_room_of_the_series():
    series = small(3, seed=5)
    alone = room(2, views=2, seed=5, size=16)
    assert identity(alone) == identity(series[2])
    assert all(np.array_equal(a, b) for a, b in zip(alone.images, series[2].images, strict=True))
    assert alone.name == series[2].name


@pytest.mark.parametrize("seed", [0, 1])
def test_default_calibration_and_pool_hold_no_room_that_scores_are_measured_on(seed):
    judged = {
        plan_room(index, seed=s).camera_from_world.tobytes() for s in (seed, 0, 2026) for index in range(100)
    }
    judged |= {plan_room(0, seed=1000 + index).camera_from_world.tobytes() for index in range(1, ROOMS + 1)}
    first = rooms(4, seed=seed, split="calibration")
    pool = candidates(first, seed, given=False)
    assert len(pool) == POOL_ROOMS
    assert pool[:4] == tuple(first)
    assert len({identity(scene) for scene in pool}) == POOL_ROOMS
    assert not judged & {identity(scene) for scene in pool}
    assert sum("(" in scene.name for scene in pool) == POOL_ROOMS // 10


@pytest.mark.parametrize(
    "scene",
    [
        lambda: load_scene("demo"),
        lambda: load_scenes("rooms:1")[0],
        lambda: SceneChoice("rooms:1").load()[0],
        lambda: replace(rooms(1)[0], name="my kitchen"),
        lambda: Workshop.scene(None, "room 2"),
        lambda: Workshop.scene(None, "demo"),
    ],
)
def test_a_held_out_room_is_known_as_one_under_whatever_name(scene):
    assert is_held_out(scene())


def test_rooms_named_for_calibration_are_of_the_calibration_split(network):
    named = SceneChoice("rooms:2").load(split="calibration")
    assert {scene.split for scene in named} == {"calibration"}
    assert {scene.split for scene in Lab(network, "rooms:1").calibration} == {"calibration"}


class Spy:
    """Notes every input that a lab's networks are run on."""

    def __init__(self, lab):
        self.lab, self.seen = lab, []
        for held in (lab._quantizer.reference, lab._quantizer.network, lab._sources._network):
            held.register_forward_pre_hook(lambda _m, args: self.seen.append(args[0].numpy().tobytes()))

    def saw(self, scenes):
        return {self.lab._subject.prepare(scene).numpy().tobytes() for scene in scenes} & set(self.seen)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("given", ["both", "only held-out", "only to judge"])
def test_no_recipe_learns_from_a_held_out_room(network, method, given):
    held_out, allowed = small(2), small(3, "calibration")
    disguised = [replace(scene, name="photos") for scene in held_out]
    if given == "both":
        lab = Lab(network, [*disguised, *allowed], disguised)
    elif given == "only held-out":
        lab = Lab(network, disguised, disguised)
    else:
        lab = Lab(network, evaluation=disguised)
    assert not any(is_held_out(scene) for scene in lab.pool)
    spy = Spy(lab)
    lab._apply(recipe(method, scenes=0 if method == "all" else 2), None)
    assert spy.seen
    assert not spy.saw(held_out)
    lab.profile()
    assert spy.saw(held_out), "looking at them is what they are there for"


def test_stand_ins_for_held_out_rooms_have_their_size_and_number_of_pictures():
    stand_ins = learnable(rooms(6, views=3, size=(24, 16)), 0)
    assert len(stand_ins) == 4
    assert {len(scene) for scene in stand_ins} == {3}
    assert {scene.images[0].shape for scene in stand_ins} == {(24, 16, 3)}
    assert {scene.split for scene in stand_ins} == {"calibration"}


# ---- the pool of a lab


def test_explicit_scenes_are_the_pool(network):
    scenes = small(5, "calibration")
    lab = Lab(network, scenes, small(1))
    assert lab.pool == tuple(scenes)
    assert lab.pool_map().picked.tolist() == list(range(5))
    picked = lab.pool_map(Selection("nfds", scenes=3))
    assert len(picked.picked) == 3
    assert len(picked.dropped) == 1
    assert picked.names == tuple(scene.name for scene in scenes)
    assert picked.tokens.tolist() == [2 * 9] * 5
    assert picked.frames.tolist() == [2] * 5


def test_a_recipe_learns_from_the_scenes_that_the_map_shows_as_picked(network):
    lab = Lab(network, small(5, "calibration"), small(1))
    lab.recipe = recipe("nfds", scenes=2)
    picked = lab.pool_map().picked
    spy = Spy(lab)
    lab._apply(lab.recipe, None)
    assert len(spy.saw([lab.pool[index] for index in picked])) == 2
    others = [scene for index, scene in enumerate(lab.pool) if index not in picked]
    assert not spy.saw(others)


def test_an_edit_of_the_selection_makes_the_layers_anew_and_undo_finds_the_former_ones(network):
    lab = Lab(network, small(6, "calibration"), small(1))
    name = next(name for name, item in recipe().layers(lab.structure).items() if item.quantized)
    made = {}
    for seed in (0, 1):
        for chosen in (recipe(), recipe("random", scenes=2), recipe("frame_aware", scenes=2)):
            lab._apply(replace(chosen, seed=seed), None)
            made[chosen.calibration.method, seed] = lab._quantizer.layer(name)
    lab._apply(replace(recipe("random", scenes=2), seed=1), None)
    assert lab._quantizer.layer(name) is made["random", 1]
    assert len({id(layer) for layer in made.values()}) >= 4


def test_a_recipe_that_learns_nothing_looks_at_no_scene(network):
    lab = Lab(network, small(3, "calibration"), small(1))
    spy = Spy(lab)
    lab._apply(Recipe.preset("rtn").calibrated("nfds"), None)
    assert not spy.seen


def test_equal_recipes_pick_equal_scenes_in_a_lab_and_in_quantize(network):
    lab = Lab(network, small(6, "calibration"), small(1))
    chosen = recipe("coarse_to_fine", scenes=2)
    lab._apply(chosen, None)
    inputs = [lab._subject.prepare(scene) for scene in lab.pool]
    alone = quantize(network, chosen, inputs, predict=lambda module, value: module(value))
    with torch.no_grad():
        ours, theirs = lab._quantizer.network(inputs[0]), alone(inputs[0])
    assert torch.equal(ours["depth"], theirs["depth"])


def test_a_stopped_look_at_the_pool_goes_on_where_it_was(network):
    lab = Lab(network, small(5, "calibration"), small(1))
    spy, job = Spy(lab), Job(lambda job: job.cancel() if job.fraction > 0.5 else None)
    with pytest.raises(JobCancelledError):
        lab.pool_map(Selection("nfds"), job=job)
    before = len(spy.seen)
    assert 0 < before < 5
    lab.pool_map(Selection("nfds"))
    assert len(set(spy.seen)) == 5
    assert len(spy.seen) <= 6
    count = len(spy.seen)
    lab.pool_map(Selection("coarse_to_fine", scenes=2))
    assert len(spy.seen) == count, "what is known of the pool is kept"


# ---- features


def test_features_are_those_of_the_outputs_of_the_deep_blocks(network):
    subject = subject_of(network)
    scene = small(1, "calibration")[0]
    value = subject.prepare(scene)
    blocks = deep_blocks(subject.structure, 1)
    assert blocks == ("aggregator.frame_blocks.1", "aggregator.global_blocks.1")
    found = scene_features(
        network, subject.structure, blocks, lambda x: subject.run(network, x), value, subject.layout(value)
    )
    with torch.no_grad():
        within, across = list(network.aggregator.iterate(value))[-1]
    np.testing.assert_allclose(found.means, [within.double().mean(), across.double().mean()], rtol=1e-6)
    expected = [part.double().var(correction=0) for part in (within, across)]
    np.testing.assert_allclose(found.variances, expected, rtol=1e-6)
    tokens = torch.cat((within, across), -1)[0].double().numpy()
    np.testing.assert_allclose(found.frames, tokens[:, 5:].mean(axis=1), rtol=1e-6)
    camera = tokens[:, 0]
    normal = (camera - camera.mean(1, keepdims=True)) / camera.std(1, keepdims=True)
    np.testing.assert_allclose(found.specials, normal, rtol=1e-4, atol=1e-6)
    assert (found.special, found.tokens) == ("camera", 18)


def test_a_look_ends_behind_the_last_deep_block(network):
    lab, ran = Lab(network, small(2, "calibration"), small(1)), []
    for name in ("aggregator.global_blocks.1", "camera_head", "depth_head"):
        module = lab._sources._network.get_submodule(name)
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    lab.pool_map("nfds")
    assert ran == ["aggregator.global_blocks.1"] * 2


def test_any_module_has_features_even_without_blocks_and_tokens():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 3))
    lab = Lab(module, [torch.randn(4, 6) for _ in range(5)], recipe=recipe("nfds", scenes=2))
    assert len(lab.pool_map().picked) == 2
    assert lab.evaluate().packed_bytes > 0


def test_a_broken_scene_is_dropped_by_name():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 3))
    inputs = [torch.randn(4, 6) for _ in range(5)]
    inputs[3][0, 0] = float("nan")
    lab = Lab(module, inputs, inputs[:1], recipe=Recipe.preset("smoothquant", scope="linears"))
    assert lab.pool_map(Selection("nfds", scenes=4)).dropped == {3: "its activations are not finite"}
    lab.recipe = lab.recipe.calibrated("nfds", scenes=4)
    assert lab.evaluate().full_precision is not None
