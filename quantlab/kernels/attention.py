"""The table of attention cores, and which one a network uses: checked, measured, and set for that network alone.

A core is what stands between an attention's projections. Without one, attention is torch's, in the dtype that comes.
"""

from __future__ import annotations

import copy
import time
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.errors import RecipeError
from quantlab.kernels import native_attention, zen
from quantlab.models import layers
from quantlab.models.layers import Attention, AttentionCore, LayerNorm
from quantlab.models.rotary import RotaryTables, frame_tables
from quantlab.registry import Registry

AUTO, TORCH = "auto", "torch"
EXACT = 0.01
"""How far a core may be from attention in float64 on values rounded to bfloat16, relative, in the 2-norm: weights and
output are rounded to bfloat16 too, each by at most 0.004."""
FEW = 16
"""Among fewer tokens than this attention is torch's, whatever the core: nothing is to be won there."""
ROWS, COLUMNS, SPECIALS = 8, 9, 5
"""Patches and special tokens of the picture that a core is tried on."""
_TOKENS, _HEADS, _RUNS = 768, 4, 5


class Core(Protocol):
    """One way to compute softmax attention exactly, with products in bfloat16 at most as coarse as torch's."""

    def absent(self) -> str:
        """Why this machine has no such core, in one sentence for a person; empty where it has."""

    def __call__(self, attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
        """As `quantlab.models.layers.AttentionCore`."""


ATTENTIONS: Registry[Core] = Registry("attention", RecipeError, also=(AUTO,))


class _Torch:
    """torch's own, on queries, keys and values in the dtype of the projection."""

    def absent(self) -> str:
        return ""

    def __call__(self, attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
        query, key, value = (part.to(qkv.dtype) for part in attention.parts(qkv, rotary))
        return layers.scaled_dot_product_attention(query, key, value).transpose(1, 2)


class _Native:
    """Our own C code (`quantlab.kernels.native_attention`)."""

    def absent(self) -> str:
        return native_attention.absent()

    def __call__(self, attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
        few = qkv.shape[1] < FEW
        return attention.mix(qkv, rotary) if few else native_attention.native_core(attention, qkv, rotary)


class _Zen:
    """AMD's plugin, where it is installed; it answers a NaN with a number, so inputs are looked at before."""

    def absent(self) -> str:
        return zen.import_problem()

    def __call__(self, attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
        if qkv.device.type != "cpu" or qkv.shape[1] < FEW or not bool(qkv.isfinite().all()):
            return attention.mix(qkv, rotary)
        parts = (part.to(torch.bfloat16) for part in attention.parts(qkv, rotary))
        mixed: Tensor = torch.ops.zentorch.zentorch_sdpa(*parts)[0]
        return mixed.transpose(1, 2).to(qkv.dtype)


ATTENTIONS.register(TORCH)(_Torch())
ATTENTIONS.register("native")(_Native())
ATTENTIONS.register("zentorch")(_Zen())


def use_attention(network: nn.Module, name: str = AUTO, *, compute: str = "float32") -> str:
    """Set the attention of one network, wherever its attentions are ours; parts kept in float32 keep torch's.

    Args:
        network: A network of `quantlab.models`, or any module with their blocks.
        name: One of `ATTENTIONS`; or "auto": of the exact ones the fastest in bfloat16 on this machine, as measured
            now, and torch's for a network that computes in float32.
        compute: "float32" or "bfloat16": what the network computes in.

    Returns:
        The name of what it uses from now on; "torch" where the named one is absent or fails its check.

    Raises:
        RecipeError: There is no attention of that name.
    """
    attentions = list(_attentions(network))
    sizes = {attention.channels for attention in attentions}
    if name == AUTO:
        on_cpu = all(p.device.type == "cpu" for p in network.parameters())
        chosen = (
            _fastest(max(sizes), torch.get_num_threads())
            if sizes and on_cpu and compute != "float32"
            else TORCH
        )
    else:
        chosen = TORCH if why_not(name, max(sizes, default=64)) else name
    core: AttentionCore | None = None if (chosen, compute) == (TORCH, "float32") else ATTENTIONS[chosen]
    for attention in attentions:
        attention.core = core
    return chosen


def why_not(name: str, channels: int = 64) -> str:
    """Why an attention is not used for heads of that size: absent here, or wrong; empty where it can be.

    Raises:
        RecipeError: There is no attention of that name.
    """
    return ATTENTIONS[name].absent() or _wrong(name, channels)


def _attentions(network: nn.Module) -> list[Attention]:
    kept = tuple(getattr(network, "kept_in_float32", ()))
    return [
        module
        for name, module in network.named_modules()
        if isinstance(module, Attention) and name.partition(".")[0] not in kept
    ]


@cache
def _fastest(channels: int, _threads: int) -> str:
    """Measured once for each size of head and number of threads, by turns: a busy machine hits all of them."""
    right = [name for name in ATTENTIONS if not why_not(name, channels)]
    rounds = [[_seconds(ATTENTIONS[name], channels) for name in right] for _ in range(_RUNS)]
    best = [min(taken) for taken in zip(*rounds, strict=True)]
    return right[best.index(min(best))]


@torch.no_grad()
def _seconds(core: Core, channels: int) -> float:
    attention, qkv = _example(channels, _TOKENS)
    start = time.perf_counter()
    core(attention, qkv, None)
    return time.perf_counter() - start


@cache
@torch.no_grad()
def _wrong(name: str, channels: int) -> str:
    """Tried on random data, with an odd number of tokens, bare, with norms and a rotation, and with a NaN."""
    core = ATTENTIONS[name]
    try:
        attention, qkv = _example(channels, ROWS * COLUMNS + SPECIALS)
        distances = [_distance(core, attention, qkv, None)]
        if channels % 4 == 0:
            distances.append(_distance(core, *_dressed(attention, qkv)))
        qkv[0, 5, 2, 0, 3] = float("nan")
        silent = not bool(core(attention, qkv, None)[0, :, 0, 3].isnan().all())
    except Exception as error:  # noqa: BLE001 - whatever a library does, it is not used then
        return f"it fails on a trial ({type(error).__name__}: {error})"
    if far := [distance for distance in distances if not distance <= EXACT]:  # a NaN is far
        return f"it is wrong on random data: {far[0]:.2g} beside {EXACT:g}"
    return "it answers a NaN with a number" if silent else ""


def _distance(core: Core, attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> float:
    query, key, value = (part.double() for part in attention.parts(qkv.float(), rotary))
    expected = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    return float((core(attention, qkv, rotary).double() - expected).norm() / expected.norm())


def _dressed(attention: Attention, qkv: Tensor) -> tuple[Attention, Tensor, RotaryTables]:
    """The same with norms, whose gains and offsets differ, and with a rotation."""
    channels, generator = attention.channels, torch.Generator().manual_seed(1)
    dressed = copy.copy(attention)
    dressed._modules = dict(attention._modules)  # noqa: SLF001 - the original stays bare
    for name in ("q_norm", "k_norm"):
        norm = LayerNorm(channels)
        norm.weight.copy_(torch.rand(channels, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(channels, generator=generator))
        setattr(dressed, name, norm)
    return dressed, qkv, frame_tables(ROWS, COLUMNS, SPECIALS, channels, torch.float32, qkv.device)


def _example(channels: int, tokens: int) -> tuple[Attention, Tensor]:
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        attention = Attention(_HEADS * channels, _HEADS)
    qkv = torch.randn(1, tokens, 3, _HEADS, channels, generator=generator)
    return attention, qkv.bfloat16()
