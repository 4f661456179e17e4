"""A second network on the same weights, and exchanging modules in it. It quantizes nothing."""

from __future__ import annotations

import copy
from collections import OrderedDict
from itertools import chain
from typing import Any

from torch import nn

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


class Places:
    """Where each named module of a network hangs; a module under several names is exchanged under all of them."""

    def __init__(self, network: nn.Module) -> None:
        self._originals = dict(network.named_modules(remove_duplicate=False))
        self._slots: dict[int, list[tuple[nn.Module, str]]] = {}
        for name, module in self._originals.items():
            if name:
                parent, _, attribute = name.rpartition(".")
                slot = (self._originals[parent], attribute)
                slots = self._slots.setdefault(id(module), [])
                if not any(slot[0] is other and attribute == own for other, own in slots):
                    slots.append(slot)

    def original(self, name: str) -> nn.Module:
        """The module that hung there at first."""
        return self._originals[name]

    def current(self, name: str) -> nn.Module:
        """The module that hangs there now."""
        parent, attribute = self._slots[id(self._originals[name])][0]
        return parent.get_submodule(attribute)

    def put(self, name: str, module: nn.Module | None) -> None:
        """Hang ``module`` there, or the original for None."""
        original = self._originals[name]
        for parent, attribute in self._slots[id(original)]:
            parent._modules[attribute] = original if module is None else module  # noqa: SLF001 - setattr costs more
