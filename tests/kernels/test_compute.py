"""A network lowered to bfloat16: what is converted, what is not, and what it costs."""

from __future__ import annotations

import copy

import pytest
import torch

import quantlab as ql
from quantlab.engine.twin import twin
from quantlab.errors import RecipeError
from quantlab.kernels.choose import execute
from quantlab.kernels.compute import lower
from quantlab.models.layers import Attention
from quantlab.models.model import Model

COST = 0.01
"""Of the clouds' diagonal: what bfloat16 may cost the built-in models on the built-in scene."""


@pytest.fixture(scope="module", params=["mini", "pi3-mini"])
def model(request):
    return ql.load_model(request.param)


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def lowered(model):
    network = copy.deepcopy(model.network)
    lower(network, "bfloat16")
    return network


def test_points_move_little_and_outputs_are_float32(model) -> None:
    scene = ql.load_scene("demo")
    expected, network = model.predict(scene.images), lowered(model)
    found = Model(network, name=model.name).predict(scene.images)
    low, high = torch.as_tensor(expected.points).reshape(-1, 3).quantile(torch.tensor([0.05, 0.95]), dim=0)
    moved = (torch.as_tensor(found.points) - torch.as_tensor(expected.points)).norm(dim=-1).mean()
    assert 0 < moved < COST * (high - low).norm()
    outputs = Model(network).run(model.preprocess(scene.images))
    assert {tensor.dtype for tensor in outputs.values()} == {torch.float32}


def test_the_stream_is_bfloat16_and_the_kept_parts_are_not(model, images) -> None:
    network, seen = lowered(model), {}
    for name, module in network.named_modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out.dtype}))
    with torch.no_grad():
        network(images)
    kept = {name for name in seen if name.partition(".")[0] in network.kept_in_float32}
    assert {seen[name] for name in seen.keys() - kept} == {torch.bfloat16}
    assert {seen[name] for name in kept} <= {torch.float32}
    for part in network.kept_in_float32:
        owned = getattr(network, part, None)
        assert owned is None or {p.dtype for p in owned.parameters()} == {torch.float32}


def test_the_network_it_was_copied_from_is_untouched(model, images) -> None:
    original = model.network
    shared = copy.deepcopy(original, {id(p): p for p in original.parameters()})
    before = {name: p.clone() for name, p in original.named_parameters()}
    lower(shared, "bfloat16")
    assert all(
        torch.equal(p, before[name]) and p.dtype == torch.float32 for name, p in original.named_parameters()
    )
    assert original.stream_dtype == torch.float32


def test_float32_changes_nothing(model, images) -> None:
    network = copy.deepcopy(model.network)
    lower(network, "float32")
    with torch.no_grad():
        found, expected = network(images), model.network(images)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kernel", ["reference", "auto"])
def test_a_quantized_network_costs_no_more_when_it_is_lowered(kernel, images) -> None:
    scene = ql.load_scene("demo")
    recipe = ql.Recipe.preset("quarot", weights=8, activations=8)
    lab = ql.Lab(ql.load_model("mini"), calibration=scene, evaluation=scene, recipe=recipe)
    network = twin(lab.calibrated().network)
    with torch.no_grad():
        expected = network(images)
    execute(network, kernel=kernel, measure=False, compute="bfloat16")
    lower(network, "bfloat16")
    with torch.no_grad():
        found = network(images)
    error = (found["depth"] - expected["depth"]).norm() / expected["depth"].norm()
    assert error < 2 * COST


@pytest.mark.bad_input
def test_what_cannot_be_lowered_is_refused() -> None:
    network = copy.deepcopy(ql.load_model("mini").network)
    with pytest.raises(RecipeError, match="cannot compute in 'float8'"):
        lower(network, "float8")
    with pytest.raises(RecipeError, match="has no bfloat16 stream"):
        lower(torch.nn.Linear(2, 2), "bfloat16")
    network.compute_dtype = torch.bfloat16
    with pytest.raises(RecipeError, match="exclude each other"):
        lower(network, "bfloat16")
