"""A whole network in bfloat16: residual stream, layers that are not quantized, dense heads. It chooses no kernels.

Unlike the published mixed precision (`network.compute_dtype`), where autocast converts inputs and weights at each
call and keeps the stream in float32, weights are converted once and every tensor between layers is half as large.
Statistics of norms, softmax and products are summed in float32; so are camera heads and what follows the last layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from quantlab.errors import RecipeError
from quantlab.kernels.attention import use_attention
from quantlab.kernels.choose import COMPUTE
from quantlab.kernels.reference import Simulated
from quantlab.kernels.stored import Widened
from quantlab.models.aggregator import Aggregator
from quantlab.models.layers import Attention
from quantlab.models.reconstruction import Reconstruction


def lower(network: nn.Module, compute: str) -> None:
    """Let a network compute in ``compute`` from now on, in place; there is no way back.

    Args:
        network: Whose quantized layers have their kernels already, or are simulated.
        compute: "float32" changes nothing.

    Raises:
        RecipeError: There is no such ``compute``, the network does mixed precision already, or is none of ours.
    """
    if compute not in COMPUTE:
        raise RecipeError(
            f"a network cannot compute in {compute!r}", remedy=f"Use one of: {', '.join(COMPUTE)}."
        )
    dtype = COMPUTE[compute]
    if dtype == torch.float32:
        return
    if not isinstance(network, Reconstruction):
        raise RecipeError(
            f"a {type(network).__name__} has no bfloat16 stream",
            remedy="Compute in float32: only networks of quantlab.models can be lowered.",
        )
    if network.compute_dtype != torch.float32:
        raise RecipeError(
            "mixed precision and a bfloat16 stream exclude each other",
            remedy='Load the model with dtype="float32" to compute in bfloat16.',
        )
    network.stream_dtype = dtype
    for module in _lowered(network):
        _convert(module, dtype)
    if not any(module.core for module in network.modules() if isinstance(module, Attention)):
        use_attention(network, "torch", compute=compute)


def _lowered(network: Reconstruction) -> Iterator[nn.Module]:
    """Every module but those that stay in float32."""
    yield network
    for name, module in network.named_modules():
        if name and name.partition(".")[0] not in network.kept_in_float32:
            yield module


def _convert(module: nn.Module, dtype: torch.dtype) -> None:
    """Its own tensors; they are replaced, not changed, because another network may share them."""
    if isinstance(module, Simulated | Widened):
        module.compute_in(dtype)
    elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) or _is_ours(module):
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    if isinstance(module, Aggregator):
        module.rotary_dtype = torch.float32


def _is_ours(module: nn.Module) -> bool:
    """Gains and containers with tokens; norms keep their weights, and executed layers look after themselves."""
    return type(module).__module__.startswith("quantlab.models.") and not isinstance(module, nn.LayerNorm)
