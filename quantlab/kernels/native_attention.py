"""Attention by our own C code, norms and rotation included. Which networks get it is decided in attention.py.

Products are in bfloat16 whatever comes in; sums and softmax are float32. Queries, keys and values are read where the
projection wrote them, and the output is written where the next projection reads it.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from quantlab.kernels import native
from quantlab.kernels.native_rows import address
from quantlab.models.layers import Attention, LayerNorm
from quantlab.models.rotary import RotaryTables

CHANNELS = (32, 64, 96, 128)
"""Sizes of a head that C knows."""
TURNING = (32, 64, 128)
"""Those that it can rotate."""
INSTRUCTIONS = {1: "AVX512-BF16", 2: "AMX-BF16"}
_UNIT = 128
"""Queries of a unit of work, at least: each lays out the keys and values of its head anew."""


class Call(ctypes.Structure):
    """``struct attention`` of native/attention.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "out")),
        *((f"{name}_stride", ctypes.c_int64 * 3) for name in ("query", "key", "value")),
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "heads", "queries", "keys", "channels", "dtype", "shares")
        ),
        *((f"{name}_{part}", ctypes.c_void_p) for name in ("query", "key") for part in ("gain", "bias")),
        *((name, ctypes.c_void_p) for name in ("cosine", "sine")),
        *((f"{name}_epsilon", ctypes.c_float) for name in ("query", "key")),
    )


def absent() -> str:
    """Why this machine cannot run it, in one sentence; empty where it can."""
    if native.library() is None:
        return native.why_absent()
    known = int(native.function("attention_level")()) in INSTRUCTIONS
    return "" if known else "this CPU multiplies no bfloat16 (AVX512-BF16)"


def native_core(attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
    """`quantlab.models.layers.AttentionCore`; what C does not know of the prologue is left to torch.

    Between the norms, the rotation and the products C rounds once, to bfloat16.
    """
    if not serves(qkv):
        return attention.mix(qkv, rotary)
    if knows(attention, qkv, rotary):
        query, key, value = qkv.unbind(2)
        return attend(query, key, value, norms=(attention.q_norm, attention.k_norm), rotary=rotary)
    query, key, value = (part.to(qkv.dtype).transpose(1, 2) for part in attention.parts(qkv, rotary))
    return attend(query, key, value)


def serves(qkv: Tensor) -> bool:
    """Whether these values are for C: not those of a GPU, in float16, of odd sizes, or that want gradients."""
    wanted = torch.is_grad_enabled() and qkv.requires_grad
    fits = qkv.dtype in {torch.float32, torch.bfloat16} and qkv.shape[-1] in CHANNELS
    return qkv.device.type == "cpu" and fits and not wanted


def knows(attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> bool:
    """Whether C does norms and rotation as well: no stand-in that rounds keys, nothing that listens."""
    tokens, channels = qkv.shape[1], qkv.shape[-1]
    turns = rotary is None or (channels in TURNING and rotary.cos.shape == (tokens, channels))
    return turns and all(_plain(norm, channels) for norm in (attention.q_norm, attention.k_norm))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    norms: tuple[nn.Module, nn.Module] = (nn.Identity(), nn.Identity()),
    rotary: RotaryTables | None = None,
) -> Tensor:
    """Softmax attention with scale 1/sqrt(channels); NaN and infinities spoil what they spoil in torch.

    Args:
        query: ``[batch, tokens, heads, channels]``, float32 or bfloat16, on the CPU; any strides whose last is 1.
        key: Likewise, of as many tokens as ``value``.
        value: Likewise.
        norms: Of queries and keys: each a LayerNorm with gain and bias, or an Identity.
        rotary: Tables ``[tokens, channels]`` for as many tokens as there are queries and keys.

    Returns:
        ``[batch, query tokens, heads, channels]``, contiguous, in the dtype of ``query``.

    Raises:
        DeviceError: There is no memory for the laid out keys and values.
        MissingLibraryError: `absent`.
    """
    batch, queries, heads, channels = query.shape
    query, key, value = (part if part.stride(-1) == 1 else part.contiguous() for part in (query, key, value))
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    if not out.numel():
        return out
    weights = [_gain_and_bias(norm) for norm in norms]
    tables = (None, None) if rotary is None else tuple(part.float().contiguous() for part in rotary)
    shares = _shares(batch * heads, queries)
    call = Call(
        *map(address, (query, key, value, out)),
        *(
            (ctypes.c_int64 * 3)(part.stride(0), part.stride(1), part.stride(2))
            for part in (query, key, value)
        ),
        *(batch, heads, queries, key.shape[1], channels, query.dtype == torch.bfloat16, shares),
        *map(address, (*weights[0], *weights[1], *tables)),
        *(float(getattr(norm, "eps", 0.0)) for norm in norms),
    )
    function, at = native.function("attention"), ctypes.byref(call)
    native.require_memory(min(native.share(lambda *ends: function(at, *ends), batch * heads * shares)))
    return out


def _shares(heads: int, queries: int) -> int:
    """Units of work in each head: some for every thread, but none that reads the keys for a few queries."""
    threads = torch.get_num_threads()
    wanted = 1 if threads == 1 else -(-4 * threads // heads)
    return max(1, min(wanted, queries // _UNIT))


def _gain_and_bias(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    if not isinstance(norm, nn.LayerNorm):
        return None, None
    return norm.weight.detach().float().contiguous(), norm.bias.detach().float().contiguous()


def _plain(norm: nn.Module, channels: int) -> bool:
    if norm._forward_hooks or norm._forward_pre_hooks:  # noqa: SLF001 - torch has no other way to ask
        return False
    if not isinstance(norm, nn.LayerNorm):
        return type(norm) is nn.Identity
    own = type(norm) in {LayerNorm, nn.LayerNorm} and norm.normalized_shape == (channels,)
    return own and norm.weight is not None and norm.bias is not None
