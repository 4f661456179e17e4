"""What every registered kernel promises, over the formats of layers; a new kernel is tested by being registered."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch
from torch import nn

from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.errors import NumericError
from quantlab.kernels import choose, integer
from quantlab.kernels.activations import StaticActivations, TwinActivations
from quantlab.kernels.check import HALF, Oracle, check
from quantlab.kernels.coded import CodedLinear
from quantlab.kernels.reference import SimulatedLinear
from quantlab.kernels.table import KERNELS
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range

CPU = torch.device("cpu")
EXACT = [*choose.ORDER, "reference"]
FORMATS = {
    "w8a8": {},
    "w8a8 no bias": {"bias": False},
    "w8a8 tensor": {"weight_granularity": "tensor", "activation_granularity": "tensor"},
    "w4a8 groups": {"weights": 4, "weight_granularity": "group", "group_size": 64},
    "w4a8 small groups": {"weights": 4, "weight_granularity": "group", "group_size": 16},
    "w4a4": {"weights": 4, "activations": 4},
    "w7 asymmetric": {"weights": 7, "weight_symmetric": False},
    "w3 asymmetric groups": {
        "weights": 3,
        "weight_symmetric": False,
        "weight_granularity": "group",
        "group_size": 32,
        "activation_symmetric": False,
    },
    "a8 asymmetric": {"activation_symmetric": False},
    "a4 asymmetric": {"weights": 2, "activations": 4, "activation_symmetric": False},
    "a8 asymmetric tensor": {"activation_symmetric": False, "activation_granularity": "tensor"},
    "rotated": {"weights": 4, "rotation": "hadamard"},
    "regular": {"weights": 4, "rotation": "regular"},
    "low rank": {"weights": 4, "low_rank": 3},
    "static": {"static": True},
    "static asymmetric": {"static": True, "activation_symmetric": False, "activations": 6},
    "twin": {"twin": True},
    "static twin": {"twin": True, "static": True},
    "weight only": {"weights": 4, "activations": 16},
    "weight only groups": {
        "weights": 5,
        "weight_symmetric": False,
        "weight_granularity": "group",
        "group_size": 16,
        "activations": 16,
        "low_rank": 2,
    },
    "input only": {"weights": 16},
    "nothing": {"weights": 16, "activations": 16},
}
"""Settings of layers, and how their input is rounded where settings alone would need calibration."""


def layer(
    name: str, inputs: int = 128, outputs: int = 48, *, dtype: torch.dtype = torch.float32
) -> SimulatedLinear:
    """A random layer of one of `FORMATS`."""
    chosen = {"weights": 8, "activations": 8, **FORMATS[name]}
    bias, static, twin = (
        chosen.pop(key, default) for key, default in (("bias", True), ("static", False), ("twin", False))
    )
    torch.manual_seed(len(name))
    full = nn.Linear(inputs, outputs, bias=bias).to(dtype)
    made = build_layer(name, full, LayerSettings(**chosen), seed=3, data=None)
    granularity = "tensor" if static else "token"
    spec = QuantSpec(
        chosen["activations"] if chosen["activations"] < 16 else 8,
        chosen.get("activation_symmetric", True),
        granularity,
    )
    if twin:
        made.activations = TwinActivations(spec, name, torch.tensor(0.02) if static else None)
    elif static:
        zero = None if spec.symmetric else torch.tensor(20, dtype=torch.int32)
        made.activations = StaticActivations(spec, Range(torch.tensor(0.05), zero), name)
    return made.eval()


def inputs(rows: int, width: int = 128) -> torch.Tensor:
    """Random inputs with outlier channels and one outlier token, ``[rows, width]``."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(rows))
    x[:, ::31] *= 20
    x[-1] *= 20
    return x


def modules(made: SimulatedLinear) -> dict[str, nn.Module]:
    """The modules of the kernels that are here and take the layer, each made from a copy."""
    return {
        name: KERNELS[name].prepare(copy.deepcopy(made))
        for name in EXACT
        if not KERNELS[name].absent(CPU) and not KERNELS[name].refuses(made)
    }


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_kernel_answers_what_the_simulated_layer_answers_within_its_bound(name):
    made, x = layer(name), inputs(37)
    with torch.no_grad():
        expected = made(x)
        for kernel, module in modules(made).items():
            share = (module(x) - expected).abs().amax(dim=1) / expected.abs().max()
            # Kernels that rotate in an order of their own may send a value close to a tie the other way.
            rows = share.sort().values[: 19 if len(made.transforms) else 37]
            assert (rows <= KERNELS[kernel].exact).all(), kernel


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_self_check_takes_every_kernel_that_is_right(name):
    made = layer(name)
    for kernel in modules(made):
        assert check(kernel, KERNELS[kernel], Oracle(made)).wrong == ""


@pytest.mark.parametrize(
    "name", ["w8a8", "w4a8 groups", "a8 asymmetric", "low rank", "static", "weight only"]
)
def test_bfloat16_comes_back_as_bfloat16_and_errs_by_its_own_rounding(name):
    made, x = layer(name), inputs(5).bfloat16().reshape(1, 5, -1)
    with torch.no_grad():
        expected = made(x.float())
        for kernel, module in modules(made).items():
            found = module(x)
            assert (found.dtype, found.shape) == (torch.bfloat16, expected.shape), kernel
            bound = (KERNELS[kernel].exact + HALF) * expected.abs().max()
            assert (found.float() - expected).abs().max() <= bound, kernel


@pytest.mark.parametrize("name", ["w8a8", "w4a8 groups", "static twin", "weight only"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused_or_seen_and_never_a_number(name, bad):
    x = inputs(4)
    x[2, 7] = bad
    for kernel, module in modules(layer(name)).items():
        with suppress(NumericError):
            assert not module(x)[2].isfinite().any(), kernel


def test_a_vector_an_empty_batch_and_many_dimensions_go_through():
    made = layer("w8a8")
    with torch.no_grad():
        for module in modules(made).values():
            for shape in ((128,), (0, 128), (2, 0, 128), (2, 3, 1, 128)):
                x = torch.randn(shape)
                torch.testing.assert_close(module(x), made(x), rtol=0, atol=1e-4)


def test_a_module_runs_in_inference_mode_and_outside_it_copied_and_from_two_threads_at_once():
    x = inputs(9)
    for module in modules(layer("w8a8")).values():
        with ThreadPoolExecutor(2) as pool:
            with torch.inference_mode():
                first, second = pool.map(module, (x, x))
            assert torch.equal(first, second)
        with torch.no_grad():
            assert torch.equal(module(x), first)
            assert torch.equal(copy.deepcopy(module)(x), first)


def test_under_autocast_a_module_answers_in_its_dtype_as_any_linear_does():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for kernel, module in modules(layer("w8a8")).items():
            assert module(inputs(3)).dtype == torch.bfloat16, kernel


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_network_that_is_cast_leaves_its_kernels_the_numbers_they_count_on(dtype):
    x = inputs(7).to(dtype)
    with torch.no_grad():
        for kernel, module in modules(layer("w8a8")).items():
            if kernel == "reference":
                continue  # it computes in the dtype that it was made in
            expected = module(x)
            found = module.to(dtype)(x)
            assert found.dtype == dtype, kernel
            assert torch.equal(found, expected), kernel
            assert torch.equal(module.to(torch.float32)(x), expected), kernel


def test_a_kernel_keeps_the_packed_codes_and_unpacks_nothing_before_it_runs(monkeypatch):
    made = layer("w4a4")
    made.keep_packed()
    monkeypatch.setattr(SimulatedLinear, "codes", None)
    monkeypatch.setattr(CodedLinear, "signed_codes", None)
    for kernel in EXACT:
        if not KERNELS[kernel].absent(CPU) and not KERNELS[kernel].refuses(made):
            module = KERNELS[kernel].prepare(made)
            assert module.packed.data_ptr() == made.packed.data_ptr(), kernel
    assert made.packed.nbytes * 2 == made.in_features * made.out_features


@pytest.mark.parametrize("name", list(FORMATS))
def test_whatever_no_kernel_takes_the_reference_does(name):
    assert KERNELS["reference"].refuses(layer(name)) == ""
    reasons = [KERNELS[kernel].refuses(layer(name, dtype=torch.float64)) for kernel in ("onednn", "int_mm")]
    assert all(reasons), "float64 is more than integer kernels keep"


def test_a_cpu_that_saturates_gets_no_weights_whose_sums_would(monkeypatch):
    assert integer.overflow_refusal(layer("w4a8 groups")) == ""
    monkeypatch.setattr(integer, "_saturates", lambda: True)
    for kernel in ("onednn", "int_mm"):
        assert "no VNNI" in KERNELS[kernel].refuses(layer("w8a8"))
        assert KERNELS[kernel].refuses(layer("w4a4")) == ""
    assert "no VNNI" in integer.overflow_refusal(layer("w7 asymmetric"))


def test_fp8_errs_by_a_sixteenth_of_each_factor_at_most():
    made, x = layer("w8a8"), inputs(20)
    module = KERNELS["fp8"].prepare(made)
    with torch.no_grad():
        found = module(x)
        sizes = x.abs() @ made.weight.abs().T
        expected = x @ made.weight.T + made.bias
    least = x.abs().amax(dim=1, keepdim=True) * 2.0**-18 * made.weight.abs().sum(dim=1)
    assert ((found - expected).abs() <= sizes * (2 / 16 + 1 / 256) + expected.abs() * 2.0**-7 + least).all()
    x[2, 7] = torch.nan
    assert module(x)[2].isnan().all()
    assert KERNELS["fp8"].absent(CPU)
    assert KERNELS["fp8"].refuses(layer("w4a4"))


@pytest.mark.parametrize("name", list(FORMATS))
def test_fp8_is_right_for_whatever_it_does_not_refuse(name):
    made = layer(name)
    if why := KERNELS["fp8"].refuses(made):
        assert len(why) > 10
    else:
        assert check("fp8", KERNELS["fp8"], Oracle(made), torch.bfloat16).wrong == ""


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["int_mm", "fp8", "dequantized"])
def test_on_a_gpu_a_kernel_is_right_too(kernel):
    device = torch.device("cuda")
    for name in FORMATS:
        made = layer(name).to(device)
        if not KERNELS[kernel].absent(device) and not KERNELS[kernel].refuses(made):
            assert check(kernel, KERNELS[kernel], Oracle(made)).wrong == "", name
