"""The native kernel against the simulated layer, with both kinds of instructions: codes, products, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.errors import DeviceError, NumericError
from quantlab.kernels import native, native_fusion
from quantlab.kernels.activations import DynamicActivations, StaticActivations, TwinActivations
from quantlab.kernels.native_fusion import fuse_gelu
from quantlab.kernels.native_linear import NativeLinear, refusal
from quantlab.kernels.native_rows import NativeRounding
from quantlab.kernels.reference import SimulatedLinear
from quantlab.methods.regular_hadamard import RegularHadamard
from quantlab.methods.rotation import HadamardRotation
from quantlab.methods.smoothing import Smoothing
from quantlab.models.layers import MLP
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, minmax_range
from quantlab.numerics.rounding import dequantize, fake_quantize, quantize

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.why_absent()}")
SWITCHES = ("", "avx512")
"""What the CPU has, and the same without AMX."""
TIE = 1e-4
"""Share of a step around a tie in which a transformed value may get either code."""


@pytest.fixture(params=SWITCHES, ids=["best", "avx512"])
def switch(request, monkeypatch):
    monkeypatch.setenv(native.SWITCH, request.param)
    return request.param


def rounded(outputs, inputs, spec, *, seed=0, transforms=(), activations=None, bias=True, low_rank=None):
    torch.manual_seed(seed)
    weight = torch.randn(outputs, inputs)
    chosen = minmax_range(weight, spec)
    layer = SimulatedLinear(
        fake_quantize(weight, *chosen, spec),
        torch.randn(outputs) if bias else None,
        transforms=transforms,
        activations=activations or DynamicActivations(token(8), "layer"),
        spec=spec,
        chosen=chosen,
        low_rank=low_rank,
    )
    return layer.eval()


def token(bits, **changes):
    return QuantSpec(bits, **{"granularity": "token", **changes})


def inputs_of(rows, width, *, seed=1):
    """Rows of very different sizes, one of them zeros, with outliers in a few channels."""
    torch.manual_seed(seed)
    x = torch.randn(rows, width) * torch.logspace(-3, 2, rows)[:, None] + 0.3
    x[:, :: max(1, width // 3)] *= 30
    x[rows // 2] = 0
    return x


def expected(layer: SimulatedLinear, kernel: NativeLinear, x):
    """What the layer gives, in float64, on the codes that the kernel has."""
    rows = x.reshape(-1, layer.in_features)
    for transform in kernel.transforms:
        rows = transform(rows)
    codes = kernel.rounding(rows.contiguous())
    spec = kernel.rounding.spec
    whole = codes.rows(layer.in_features).double()
    zero = 128 if spec.symmetric else codes.zero.double()[:, None]
    activations = (whole - zero) * codes.scale.double()[:, None]
    weight = dequantize(layer.codes(), layer.scale, layer.zero_point, layer.spec, dtype=torch.float64)
    out = activations @ weight.T + (0 if layer.bias is None else layer.bias.double())
    if layer.down is not None:
        out += rows.double() @ layer.down.double() @ layer.up.double()
    return out.reshape(*x.shape[:-1], layer.out_features)


def assert_equal_up_to(got, wanted, bound):
    """Row by row; a sum that cancels leaves 1e-15 even in float64, and is compared with 1e-8."""
    rows = got.double().reshape(-1, got.shape[-1]), wanted.reshape(-1, wanted.shape[-1])
    error = (rows[0] - rows[1]).abs().amax(dim=1) / rows[1].abs().amax(dim=1).clamp(min=1e-8)
    assert float(error.max()) <= bound


SPECS = (
    [QuantSpec(bits) for bits in range(2, 9)]
    + [QuantSpec(bits, symmetric=False) for bits in range(2, 8)]
    + [QuantSpec(4, granularity="tensor"), QuantSpec(8, granularity="tensor")]
    + [
        QuantSpec(bits, symmetric=symmetric, granularity="group", group_size=64)
        for bits in (3, 6)
        for symmetric in (True, False)
    ]
)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=str)
@torch.inference_mode()
def test_on_identical_codes_the_product_is_that_of_the_simulated_layer(switch, spec, packed):
    width = 192 if spec.granularity == "group" else 75
    layer = rounded(37, width, spec)
    if packed:
        assert layer.keep_packed()
    kernel, x = NativeLinear(layer), inputs_of(35, width).reshape(5, 7, width)
    wanted = expected(layer, kernel, x)
    assert_equal_up_to(kernel(x), wanted, 2e-6)
    assert_equal_up_to(kernel(x), layer(x).double(), 1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_without_transforms_codes_and_scales_are_those_of_the_reference_bit_for_bit(
    switch, bits, symmetric, static, dtype
):
    x = inputs_of(19, 130).to(dtype)
    spec = token(bits, symmetric=symmetric, granularity="tensor" if static else "token")
    chosen = minmax_range(x[:9], spec)
    activations = (
        StaticActivations(spec, chosen, "layer") if static else DynamicActivations(spec, "layer", 0.9)
    )
    codes = NativeRounding(activations, (), 130)(x)
    scale, zero = chosen if static else minmax_range(x, spec)
    scale = scale if static else scale * 0.9
    assert torch.equal(codes.scale, scale.expand(19))
    if not symmetric:
        assert torch.equal(codes.zero, zero.expand(19))
    wanted = quantize(x, scale, zero, spec).to(torch.int32) + (128 if symmetric else 0)
    assert torch.equal(codes.rows(130).to(torch.int32), wanted)


@torch.inference_mode()
def test_ties_go_to_the_even_code_and_what_is_far_beyond_the_format_to_its_ends(switch):
    spec = QuantSpec(8, granularity="tensor")
    whole = torch.arange(-128, 127)
    for scale in (1.0, 0.1, 3e-3, 7e5):
        chosen = Range(torch.tensor(scale), None)
        x = torch.cat([(whole + 0.5) * scale, torch.tensor([1e38, -1e38, 3e38, 0.0])])[None]
        codes = NativeRounding(StaticActivations(spec, chosen, "layer"), (), x.shape[1])(x)
        assert torch.equal(
            codes.rows(x.shape[1]).to(torch.int32) - 128, quantize(x, *chosen, spec).to(torch.int32)
        )


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e37, 3e38])
@pytest.mark.parametrize("symmetric", [True, False])
@torch.inference_mode()
def test_the_smallest_and_the_largest_numbers_have_finite_scales(switch, size, symmetric):
    x = torch.tensor([[size, -size / 2, 0.0], [0.0, 0.0, 0.0]])
    spec = token(8, symmetric=symmetric)
    codes = NativeRounding(DynamicActivations(spec, "layer", 0.9), (), 3)(x)
    scale, zero = minmax_range(x, spec)
    assert torch.equal(codes.scale, scale * 0.9)
    offset = 128 if symmetric else 0
    assert torch.equal(
        codes.rows(3).to(torch.int32) - offset, quantize(x, scale * 0.9, zero, spec).to(torch.int32)
    )


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 70),
    width=st.integers(1, 200),
    outputs=st.integers(1, 100),
    bits=st.sampled_from([4, 8]),
    bias=st.booleans(),
)
@torch.inference_mode()
def test_any_number_of_rows_and_columns_is_right(rows, width, outputs, bits, bias):
    layer = rounded(outputs, width, QuantSpec(bits), bias=bias)
    kernel, x = NativeLinear(layer), inputs_of(rows, width)
    assert_equal_up_to(kernel(x), expected(layer, kernel, x), 2e-6)


@pytest.mark.parametrize(
    "width", [1, 2, 8, 16, 24, 48, 64, 96, 192, 320, 512, 576, 588, 768, 1024, 2048, 96 * 1024]
)
@torch.inference_mode()
def test_smoothing_and_rotation_are_those_of_torch_in_any_order(switch, width):
    torch.manual_seed(0)
    smoothing, x = Smoothing(torch.rand(width) * 8 + 0.1), inputs_of(3, width)
    turned, again = HadamardRotation(width, 7), HadamardRotation(width, 8)
    for transforms in ((smoothing,), (turned,), (smoothing, turned), (turned, smoothing, again)):
        activations = DynamicActivations(token(8), "layer")
        layer = rounded(1, width, QuantSpec(8), transforms=transforms, activations=activations)
        kernel = NativeLinear(layer)
        block = turned.rotation.block
        ours = (
            block & (block - 1) == 0 or block & -block >= 64
        )  # what is left of it beside an order as 12 or 20
        assert ours == (len(kernel.transforms) == 0) or transforms == (smoothing,)
        rows = x
        for transform in kernel.transforms:
            rows = transform(rows)
        codes = kernel.rounding(rows)
        exact = x.double()
        for transform in transforms:
            exact = transform(exact)
        scale = minmax_range(exact.float(), activations.spec).scale
        assert torch.allclose(codes.scale, scale, rtol=2e-6)
        steps = exact / scale.double()[:, None]
        assert float(((codes.rows(width).double() - 128) - steps).abs().max()) <= 0.5 + TIE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_gelu_that_was_taken_in_is_exact(switch, dtype):
    values = torch.cat(
        [torch.linspace(-12, 12, 4001), torch.tensor([0.0, 1e-30, -1e-30, 1e30, -1e30, 3e38, -3e38])]
    )
    x = values[:, None].expand(-1, 2).to(dtype).contiguous()
    exact = torch.nn.functional.gelu(x.double())[:, 0]
    rounding = NativeRounding(DynamicActivations(token(8), "layer"), (), 2)
    rounding.gelu = True
    codes = rounding(x)
    got = (codes.rows(2).double()[:, 0] - 128) * codes.scale.double()
    assert float(((got - exact) / exact.abs().clamp(min=1)).abs().max()) < 5e-7


@pytest.mark.parametrize("rotated", [True, False])
@torch.inference_mode()
def test_an_mlp_answers_the_same_with_its_gelu_inside_its_second_layer(switch, rotated):
    transforms = (HadamardRotation(64, 1),) if rotated else ()
    mlp = MLP(32, 64, 24).eval()
    mlp.fc2 = NativeLinear(rounded(24, 64, QuantSpec(8), transforms=transforms))
    x = torch.randn(50, 32)
    before = mlp(x)
    assert fuse_gelu(mlp) == 1
    assert isinstance(mlp.act, torch.nn.Identity)
    assert fuse_gelu(mlp) == 0
    share = (mlp(x) - before).abs().amax(dim=1) / before.abs().amax(dim=1)
    assert float((share < 1e-5).float().mean()) > 0.9  # but for codes next to ties
    assert float(share.max()) < 0.05


def test_a_gelu_stays_where_torch_reads_the_input_first():
    branch = torch.randn(64, 3), torch.randn(3, 24)
    whole = DynamicActivations(QuantSpec(8, granularity="tensor"), "layer")
    for changes in ({"low_rank": branch}, {"transforms": (RegularHadamard(16),)}, {"activations": whole}):
        mlp = MLP(32, 64, 24)
        mlp.fc2 = NativeLinear(rounded(24, 64, QuantSpec(8), **changes))
        assert fuse_gelu(mlp) == 0
        assert isinstance(mlp.act, torch.nn.GELU)


def test_a_gelu_that_fails_its_trial_stays_with_torch(monkeypatch):
    mlp = MLP(32, 64, 24)
    mlp.fc2 = NativeLinear(rounded(24, 64, QuantSpec(8)))
    monkeypatch.setattr(native_fusion.F, "gelu", torch.nn.functional.silu)
    native_fusion.right.cache_clear()
    try:
        assert fuse_gelu(mlp) == 0
        assert isinstance(mlp.act, torch.nn.GELU)
    finally:
        native_fusion.right.cache_clear()


@torch.inference_mode()
def test_what_c_does_not_know_is_done_by_torch_before_it(switch):
    layer = rounded(40, 64, QuantSpec(4), transforms=(Smoothing(torch.rand(64) + 0.5), RegularHadamard(16)))
    kernel, x = NativeLinear(layer), inputs_of(20, 64)
    assert [type(part).__name__ for part in kernel.transforms] == ["Smoothing", "RegularHadamard"]
    assert_equal_up_to(kernel(x), expected(layer, kernel, x), 2e-6)


@torch.inference_mode()
def test_the_low_rank_branch_sees_the_input_before_it_is_rounded(switch):
    branch = torch.randn(64, 3), torch.randn(3, 40)
    layer = rounded(40, 64, QuantSpec(4), transforms=(HadamardRotation(64, 1),), low_rank=branch)
    kernel, x = NativeLinear(layer), inputs_of(20, 64)
    assert_equal_up_to(kernel(x), expected(layer, kernel, x), 2e-6)


@torch.inference_mode()
def test_a_range_of_the_whole_input_is_taken_behind_the_transforms(switch):
    activations = DynamicActivations(QuantSpec(8, granularity="tensor"), "layer", 0.8)
    layer = rounded(40, 64, QuantSpec(8), transforms=(HadamardRotation(64, 1),), activations=activations)
    kernel, x = NativeLinear(layer), inputs_of(20, 64)
    scale = minmax_range(layer.transform(x), activations.spec).scale * 0.8
    assert torch.allclose(kernel.rounding(layer.transform(x)).scale, scale.expand(20))
    assert_equal_up_to(kernel(x), expected(layer, kernel, x), 2e-6)


@pytest.mark.parametrize("group", [0, 64])
@torch.inference_mode()
def test_bfloat16_is_answered_in_bfloat16_and_only_the_end_is_rounded(switch, group):
    spec = QuantSpec(4, granularity="group" if group else "channel", group_size=group)
    layer = rounded(37, 128, spec, transforms=(HadamardRotation(128, 1),))
    kernel, x = NativeLinear(layer), inputs_of(33, 128).bfloat16()
    got = kernel(x)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, kernel(x.float()).bfloat16())
    assert_equal_up_to(got, expected(layer, kernel, x.float()), 2**-8)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_what_is_not_finite_is_refused_with_the_place_it_was_found_in(switch, bad, dtype):
    spec = QuantSpec(8, granularity="tensor")
    for activations in (
        DynamicActivations(token(8), "blocks.3.qkv"),
        StaticActivations(spec, minmax_range(torch.ones(4, 64), spec), "blocks.3.qkv"),
    ):
        kernel = NativeLinear(
            rounded(32, 64, QuantSpec(8), transforms=(HadamardRotation(64, 0),), activations=activations)
        )
        x = torch.ones(40, 64, dtype=dtype)
        x[33, 5] = bad
        with pytest.raises(NumericError, match=r"row 33 .*blocks\.3\.qkv"):
            kernel(x)


@torch.inference_mode()
def test_threads_change_no_bit(switch):
    spec = QuantSpec(4, granularity="group", group_size=128)
    wide, narrow = rounded(300, 512, spec), rounded(33, 512, spec)
    x, threads = inputs_of(333, 512), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append([NativeLinear(layer)(x) for layer in (wide, narrow)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@torch.inference_mode()
def test_both_kinds_of_instructions_give_the_same_bits(monkeypatch):
    kernel, x = NativeLinear(rounded(70, 192, SPECS[-1])), inputs_of(50, 192)
    results = []
    for chosen in SWITCHES:
        monkeypatch.setenv(native.SWITCH, chosen)
        results.append(kernel(x))
    assert torch.equal(*results)


@torch.inference_mode()
def test_no_rows_give_no_rows_and_other_dtypes_come_back_as_they_came():
    kernel = NativeLinear(rounded(40, 64, QuantSpec(4)))
    assert kernel(torch.empty(2, 0, 64)).shape == (2, 0, 40)
    assert kernel(torch.randn(3, 64, dtype=torch.float16)).dtype == torch.float16
    x = torch.randn(64, 5).T
    assert torch.equal(kernel(x), kernel(x.contiguous()))


def test_the_codes_that_a_layer_keeps_are_used_where_they_lie():
    layer = rounded(40, 64, QuantSpec(4))
    assert layer.keep_packed()
    kernel = NativeLinear(layer)
    assert kernel.packed.data_ptr() == layer.packed.data_ptr()
    x = torch.randn(3, 64)
    assert torch.equal(copy.deepcopy(kernel)(x), kernel(x))


def test_a_layer_that_it_cannot_execute_is_refused_with_the_reason():
    plain = rounded(8, 96, QuantSpec(4))
    plain.activations = None
    twin = rounded(8, 96, QuantSpec(4), activations=TwinActivations(token(8), "layer"))
    wide = rounded(8, 96, QuantSpec(8, symmetric=False))
    odd = rounded(8, 96, QuantSpec(4, granularity="group", group_size=32))
    assert "not rounded" in refusal(plain)
    assert "twin" in refusal(twin)
    assert "8 bits" in refusal(wide)
    assert "groups of 32" in refusal(odd)
    assert refusal(rounded(8, 96, QuantSpec(4))) == ""
    with pytest.raises(TypeError, match="twin"):
        NativeLinear(twin)


def test_what_lies_in_another_memory_is_refused_before_c_reads_it():
    made = NativeLinear(rounded(32, 64, QuantSpec(8, granularity="channel")))
    for module, x in ((made, torch.ones(2, 64, device="meta")), (made.to("meta"), torch.ones(2, 64))):
        with pytest.raises(DeviceError, match="CPUs only"):
            module(x)
