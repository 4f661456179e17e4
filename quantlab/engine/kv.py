"""Puts the rounding of keys and values into the attentions of a network, and takes it out. It rounds nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import nn

from quantlab.engine.attention import kv_layers
from quantlab.engine.plan import Plan
from quantlab.kernels.kv import RoundedKeys, RoundedProjection, SpecialTokens
from quantlab.methods.kv import KVFormat
from quantlab.models.structure import BranchInfo, Structure

NORM = "k_norm"
HEADS = ("heads", "num_heads", "n_heads", "nhead", "num_attention_heads")


def kv_formats(chosen: Plan, seed: int) -> dict[str, KVFormat]:
    """How the keys and values of each attention are rounded that the plan rounds."""
    return {
        name: KVFormat(branch.kv_bits, branch.settings.kv_rotation, branch.settings.kv_protect, seed)
        for name, branch in chosen.branches.items()
        if branch.rounds_kv
    }


class ModulePlaces(Protocol):
    """Where modules hang: `quantlab.engine.twin.Places`."""

    def original(self, name: str) -> nn.Module:
        """The module that hung there at first."""

    def current(self, name: str) -> nn.Module:
        """The module that hangs there now."""

    def put(self, name: str, module: nn.Module | None) -> None:
        """Hang it there, or the original for None."""


class KVPlaces:
    """The stand-ins that round keys and values in one network.

    Args:
        places: Of the network's modules.
        structure: Its layers and branches.
    """

    def __init__(self, places: ModulePlaces, structure: Structure) -> None:
        self._places, self._structure = places, structure
        self._norms: list[str] = []
        self._unhook: list[Callable[[], None]] = []

    def put(self, formats: Mapping[str, KVFormat]) -> None:
        """Round in these attention branches and in no other.

        Layers must be in place before, without stand-ins: exchanging a layer drops what stood around it.
        """
        self._clear()
        for name, chosen in formats.items():
            self._wrap(self._structure.branches[name], chosen)

    def _clear(self) -> None:
        while self._unhook:
            self._unhook.pop()()
        while self._norms:
            self._places.put(self._norms.pop(), None)

    def _wrap(self, info: BranchInfo, chosen: KVFormat) -> None:
        attention = self._places.original(info.name)
        heads, special = _heads(attention), SpecialTokens()
        if chosen.protect:
            handle = attention.register_forward_pre_hook(special.note, with_kwargs=True)
            self._unhook.append(handle.remove)
        normed = normed_keys(attention)
        if normed:
            norm = f"{info.name}.{NORM}"
            self._norms.append(norm)
            inner = self._places.current(norm)
            self._places.put(norm, RoundedKeys(inner, chosen, heads, special, f"keys of {info.name}"))
        for layer, (parts, count) in kv_layers(info, normed=normed).items():
            inner = self._places.current(layer)
            place = f"keys and values of {info.name}"
            self._places.put(
                layer, RoundedProjection(inner, chosen, heads, special, place, parts=parts, count=count)
            )


def normed_keys(attention: nn.Module) -> bool:
    """Whether the keys pass a norm of their own behind the projection."""
    norm = attention._modules.get(NORM)  # noqa: SLF001 - its stand-in must not be looked through
    return norm is not None and not isinstance(norm, nn.Identity)


def _heads(attention: nn.Module) -> int:
    """The number of heads that the attention states; 1 where it states none: one scale for a whole token then."""
    for name in HEADS:
        stated = getattr(attention, name, None)
        if type(stated) is int and stated > 0:
            return stated
    return 1
