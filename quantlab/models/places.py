"""Where the named modules of a network hang, so that they can be exchanged. It makes no modules."""

from __future__ import annotations

from torch import nn


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
