"""Every preset on every kind of network: a plain MLP, a small vision transformer, a tiny VGGT."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import quantlab as ql
from quantlab.engine import reconstruct
from quantlab.engine.calibrate import Calibration
from quantlab.engine.presets import PRESETS
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.kernels.compensated import CompensatedOutput
from quantlab.kernels.reference import Simulated
from quantlab.models.structure import describe

TINY = {
    "aggregator": {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 24, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v))


class VitBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, width: int = 20) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.ModuleList(VitBlock(width) for _ in range(2))
        self.head = nn.Linear(width, 7)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1))


def mlp() -> tuple[nn.Module, list[Tensor]]:
    return nn.Sequential(nn.Linear(13, 30), nn.ReLU(), nn.Linear(30, 4)), [
        torch.randn(50, 13) for _ in range(3)
    ]


def vit() -> tuple[nn.Module, list[Tensor]]:
    return Vit(), [torch.randn(2, 3, 16, 16) for _ in range(3)]


def vggt() -> tuple[nn.Module, list[Tensor]]:
    network = ql.build_model("vggt", TINY)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("gamma", "_token", "cls_token", "register_tokens")):
                parameter.normal_()
    return network, [torch.rand(1, frames, 3, 16, 16) for frames in (2, 3, 2)]


NETWORKS = {"mlp": mlp, "vit": vit, "vggt": vggt}


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch) -> None:
    """The laws hold however long is learned."""
    whole = reconstruct.Schedule
    monkeypatch.setattr(reconstruct, "Schedule", lambda **given: whole(**{**given, "epochs": 3}))


@pytest.fixture(params=list(NETWORKS))
def case(request) -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    network, inputs = NETWORKS[request.param]()
    return network.eval(), inputs


def outputs(network: nn.Module, given: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        result = network(given)
    return result if isinstance(result, dict) else {"out": result}


def error(network: nn.Module, quantized: nn.Module, given: Tensor) -> float:
    exact, other = outputs(network, given), outputs(quantized, given)
    return max(float((exact[key] - other[key]).norm() / exact[key].norm().clamp_min(1e-9)) for key in exact)


@pytest.mark.parametrize("scope", ["trunk", "all"])
@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_quantizes_what_its_plan_names_and_eight_bits_lose_little(name, scope, case):
    network, inputs = case
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    quantizer.apply(Recipe.preset(name, weights=8, activations=8, scope=scope))
    replaced = {
        path
        for path, module in quantizer.network.named_modules(remove_duplicate=False)
        if isinstance(module, Simulated)
    }
    assert {path.replace(".inner", "") for path in replaced} == set(quantizer.plan.quantized)
    assert bool(replaced) == (PRESETS[name].only == "both")
    assert error(network, quantizer.network, inputs[0]) < 0.1
    if name == "full_precision":
        assert error(network, quantizer.network, inputs[0]) == 0


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "full_precision"])
def test_fewer_bits_lose_more(name, case):
    network, inputs = case
    if PRESETS[name].only == "kv" and not any(b.kind == "attn" for b in describe(network).branches.values()):
        pytest.skip("a network without attention has no keys and values")
    losses = [
        error(
            network,
            ql.quantize(network, Recipe.preset(name, weights=bits, activations=bits), inputs),
            inputs[1],
        )
        for bits in (8, 4)
    ]
    assert 0 < losses[0] < losses[1]


def test_going_through_all_presets_and_back_leaves_no_trace(case):
    network, inputs = case
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    before = outputs(network, inputs[0])
    tree = str(quantizer.network)
    for name in [*PRESETS, "full_precision"]:
        quantizer.apply(Recipe.preset(name))
    assert str(quantizer.network) == tree
    after = outputs(quantizer.network, inputs[0])
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_layers_of_a_compensated_network_are_still_found_by_their_names(case):
    network, inputs = case
    structure = describe(network)
    quantizer = Quantizer(network, structure, Calibration(inputs))
    quantizer.apply(Recipe.preset("rtn").set("*", compensation=True))
    for name in structure.layers:
        quantizer.network.get_submodule(name)
    wrapped = sum(isinstance(module, CompensatedOutput) for module in quantizer.network.modules())
    assert wrapped == len([fit for fit in quantizer.fits.values() if fit.correction is not None])
    trunk = [
        branch
        for branch in structure.branches.values()
        if quantizer.plan.branches[branch.name].compensated == "on"
    ]
    assert wrapped == len(trunk)


def test_a_predict_function_runs_networks_that_take_more_than_a_tensor():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, *, scale: float) -> Tensor:
            return self.b(self.a(x) * scale)

    torch.manual_seed(0)
    network, x = Two().eval(), torch.randn(20, 4)
    recipe = Recipe.preset("smoothquant")
    by_function = ql.quantize(network, recipe, [x], predict=lambda net, given: net(given, scale=2.0))
    by_name = ql.quantize(network, recipe, [{"x": x, "scale": 2.0}])
    with torch.no_grad():
        assert torch.equal(by_function(x, scale=2.0), by_name(x, scale=2.0))
