"""A second network on the same weights. It quantizes nothing."""

from __future__ import annotations

import copy
from collections import OrderedDict
from itertools import chain
from typing import Any

from torch import nn

from quantlab.models.places import Places

__all__ = ["Places", "twin"]

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def twin(network: nn.Module, *, hooks: bool = True) -> nn.Module:
    """A copy of the module tree in evaluation mode; parameters and buffers are those of ``network``, not copies.

    Without ``hooks`` those that hang on the modules now stay behind, and with them whatever they refer to.
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    if not hooks:
        memo |= {id(getattr(m, name)): OrderedDict() for m in network.modules() for name in HOOKS}
    copied = copy.deepcopy(network, memo).eval()
    for module in copied.modules():
        # torch's fused encoder layer reads the weights of its Linears without calling them.
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    return copied
