"""Block-wise reconstruction: never worse than no learning, reproducible, weighted as told, and without side effects."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.batches import batches_of
from quantlab.engine.build import build_layer
from quantlab.engine.reconstruct import Learning, Schedule, reconstruct
from quantlab.engine.settings import LayerSettings
from quantlab.engine.walk import Call, StageCalls
from quantlab.errors import JobCancelledError
from quantlab.jobs import Job
from quantlab.methods.learned import Learned
from quantlab.models.layers import Block

NAMES = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
SHORT = Schedule(epochs=3, divisor_rate=2e-2, mixing_rate=2e-2)
ROTATED = {"rotation": "hadamard", "smoothing": 0.5}
MIXED = {"rotation": "kronecker", "smoothing": 0.5, "smoothing_order": "before"}


def a_block() -> Block:
    torch.manual_seed(0)
    block = Block(16, 2, layer_scale=1.0).eval()
    block.norm1.weight.data[3] = 20.0
    return block


def some_calls(count: int = 4) -> StageCalls:
    generator = torch.Generator().manual_seed(1)
    scenes = [[Call((torch.randn(2, 6, 16, generator=generator),), {})] for _ in range(count)]
    return StageCalls("blocks.0", scenes, None)


def inputs_of(block: Block, calls: StageCalls) -> dict[str, LayerData]:
    seen: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    hooks = [
        block.get_submodule(name).register_forward_pre_hook(
            lambda _module, args, name=name: seen[name].append(args[0].detach().flatten(0, -2))
        )
        for name in NAMES
    ]
    with torch.no_grad():
        for scene in calls.full:
            for call in scene:
                call.on(block)
    for hook in hooks:
        hook.remove()
    rows = {name: torch.cat(parts) for name, parts in seen.items()}
    return {n: LayerData(x, x.abs().amax(dim=0), np.zeros(len(x), dtype=np.uint8)) for n, x in rows.items()}


def to_learn(block: Block, calls: StageCalls, **settings: object) -> dict[str, Learning]:
    chosen = LayerSettings(**{"weights": 4, "activations": 4, "reconstruction": "block", **settings})
    data = inputs_of(block, calls)
    return {f"blocks.0.{name}": (block.get_submodule(name), chosen, data[name]) for name in NAMES}


def built(block: Block, layers: dict[str, Learning], learned: dict[str, Learned]) -> Block:
    made = copy.deepcopy(block)
    for name, (layer, settings, data) in layers.items():
        parent, _, leaf = name.removeprefix("blocks.0.").rpartition(".")
        quantized = build_layer(name, layer, settings, seed=0, data=data, learned=learned.get(name))
        setattr(made.get_submodule(parent), leaf, quantized)
    return made


@torch.no_grad()
def error(block: Block, made: Block, calls: StageCalls, weights: Tensor | float = 1.0) -> float:
    pairs = [(call.on(made), call.on(block)) for scene in calls.full for call in scene]
    return sum(float(((given - target).square() * weights).mean()) for given, target in pairs)


def run(block: Block, layers: dict[str, Learning], **more: object) -> dict[str, Learned]:
    return reconstruct(block, block, some_calls(), layers, **{"seed": 0, "schedule": SHORT, **more})


@pytest.mark.parametrize("kind", [ROTATED, MIXED, {"weight_granularity": "tensor"}], ids=str)
def test_learning_lowers_the_error_of_the_layers_that_are_built_from_it(kind):
    block, calls = a_block(), some_calls()
    layers = to_learn(block, calls, **kind)
    learned = run(block, layers)
    assert error(block, built(block, layers, learned), calls) < error(block, built(block, layers, {}), calls)


@pytest.mark.gpu
def test_learning_lowers_the_error_on_cuda_too():
    block = a_block().cuda()
    scenes = [[Call((call.args[0].cuda(),), {}) for call in scene] for scene in some_calls().full]
    calls = StageCalls("blocks.0", scenes, None)
    layers = to_learn(block, calls, **MIXED)
    learned = reconstruct(block, block, calls, layers, seed=0, schedule=SHORT)
    assert error(block, built(block, layers, learned), calls) < error(block, built(block, layers, {}), calls)


def test_steps_that_only_do_harm_leave_the_layers_unlearned():
    block, calls = a_block(), some_calls()
    layers = to_learn(block, calls, **ROTATED)
    learned = run(block, layers, schedule=Schedule(epochs=3, divisor_rate=5.0, clip_rate=5.0))
    start, end = (error(block, built(block, layers, found), calls) for found in ({}, learned))
    assert end <= start * (1 + 1e-6)


def test_the_same_seed_learns_the_same_and_another_order_something_else():
    block, calls = a_block(), some_calls()
    layers = to_learn(block, calls, **ROTATED)
    first, again = run(block, layers), run(block, layers)
    for name in layers:
        assert torch.equal(first[name].divisor, again[name].divisor)
        assert torch.equal(first[name].weight_clip, again[name].weight_clip)
    other = run(block, layers, seed=5)
    assert not all(torch.equal(first[name].weight_clip, other[name].weight_clip) for name in layers)


@pytest.mark.parametrize("of", ["channels", "kinds"])
def test_the_error_that_counts_more_falls_more(of):
    block, calls = a_block(), some_calls()
    layers = to_learn(block, calls, **ROTATED)
    kinds = np.array([0, 1, 1, 0, 0, 0], dtype=np.uint8)
    if of == "channels":
        importance = weights = torch.where(torch.arange(16) < 3, 5.0, 0.01)
    else:
        importance = torch.tensor([0.01, 5.0])[:, None].expand(2, 16)
        weights = importance[torch.from_numpy(kinds).long()]
    long = Schedule(epochs=9, divisor_rate=2e-2, mixing_rate=2e-2)
    plain = built(block, layers, run(block, layers, schedule=long))
    fisher = {"objective": "fisher", "importance": importance, "kinds": lambda _scene, _tokens: kinds}
    aimed = built(block, layers, run(block, layers, schedule=long, **fisher))
    assert error(block, aimed, calls, weights) < error(block, plain, calls, weights)


def test_neither_block_nor_calls_are_changed_and_a_cancelled_run_leaves_no_trace():
    block, calls = a_block(), some_calls()
    layers = to_learn(block, calls, **ROTATED)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    given = [call.args[0].clone() for scene in calls.full for call in scene]
    modules = dict(block.named_modules())
    fired: list[int] = []
    block.register_forward_hook(lambda *_: fired.append(1))
    job = Job(lambda job: job.cancel() if job.progress.done == 2 else None)
    with pytest.raises(JobCancelledError):
        reconstruct(a_block(), block, calls, layers, seed=0, job=job)
    assert not fired
    reconstruct(a_block(), block, calls, layers, seed=0, schedule=SHORT)
    assert dict(block.named_modules()) == modules
    assert all(torch.equal(before[name], value) for name, value in block.state_dict().items())
    assert all(parameter.grad is None for parameter in block.parameters())
    after = [call.args[0] for scene in calls.full for call in scene]
    assert all(torch.equal(a, b) for a, b in zip(given, after, strict=True))


def test_quantized_inputs_are_aimed_at_the_full_precision_output():
    block, calls = a_block(), some_calls()
    shifted = [[Call((call.args[0] * 1.3,), {}) for call in scene] for scene in calls.full]
    both = StageCalls("blocks.0", calls.full, shifted)
    layers = to_learn(block, calls, inputs="quantized", **ROTATED)
    learned = reconstruct(block, block, both, layers, seed=0, schedule=SHORT)
    made = [built(block, layers, found) for found in ({}, learned)]
    with torch.no_grad():
        errors = [
            sum(
                float((bad[0].on(model) - good[0].on(block)).square().mean())
                for bad, good in zip(shifted, calls.full, strict=True)
            )
            for model in made
        ]
    assert errors[1] < errors[0]


@torch.no_grad()
def test_scenes_are_joined_where_the_block_does_not_mix_them_and_only_there():
    class Crowd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=0)

    calls = some_calls(4).full
    block = a_block()
    joined = batches_of(block, calls, calls, size=2, seed=0)
    assert [batch.scenes for batch in joined] == [2, 2]
    for batch in joined:
        torch.testing.assert_close(batch.call.on(block), batch.targets[0])
    assert [batch.scenes for batch in batches_of(Crowd(), calls, calls, size=2, seed=0)] == [1] * 4


def test_weights_of_tokens_count_in_a_joined_batch_as_in_its_calls_one_by_one():
    block = torch.nn.Linear(4, 4)
    scenes = [[Call((torch.randn(6, 4),), {})] for _ in range(3)]
    weights = torch.rand(6, 4)
    found = batches_of(block, scenes, scenes, size=3, seed=0, weigh=lambda _scene, _target: weights)
    (joined,) = found
    error = torch.rand(18, 4)
    assert joined.scenes == 3
    torch.testing.assert_close(error * joined.weights, error * weights.repeat(3, 1))
    (frames,) = batches_of(
        block,
        [[Call((call.args[0][None],), {})] for (call,) in scenes],
        [[Call((call.args[0][None],), {})] for (call,) in scenes],
        size=3,
        seed=0,
        weigh=lambda _scene, _target: weights,
    )
    assert (frames.targets[0] * frames.weights).shape == (3, 6, 4)


def test_a_layer_that_cannot_learn_says_so_and_the_others_learn_around_it():
    block, calls = a_block(), some_calls()
    layers = to_learn(block, calls, **ROTATED)
    layer, _, data = layers["blocks.0.mlp.fc2"]
    fixed = LayerSettings(weights=4, activations=4, low_rank=2, reconstruction="block")
    layers["blocks.0.mlp.fc2"] = (layer, fixed, data)
    learned = run(block, layers)
    assert learned["blocks.0.mlp.fc2"].weight_clip is None
    assert learned["blocks.0.mlp.fc1"].divisor is not None
