"""Where keys and values of an attention come from, and which attentions a recipe reaches. Names only, no tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.models.structure import BranchInfo, Structure

FUSED = ("qkv", "to_qkv")
KEYS = ("k", "k_proj", "to_k", "key")
VALUES = ("v", "v_proj", "to_v", "value")
Parts = tuple[tuple[int, ...], int]
"""Which of the equal parts of a layer's output, and how many it has."""


def kv_layers(info: BranchInfo, *, normed: bool) -> dict[str, Parts]:
    """Layer of an attention to the parts of its output to round; empty where they cannot be told.

    The rows of a fused projection are queries, keys, values, as everywhere where such layers are known.

    Args:
        info: The branch.
        normed: Keys pass a norm of their own and are rounded behind it, so that only values are left.
    """
    leaves = {layer.rpartition(".")[2]: layer for layer in info.layers}
    fused = next((leaves[leaf] for leaf in FUSED if leaf in leaves), None)
    if info.kind != "attn":
        return {}
    if fused is not None:
        return {fused: ((2,) if normed else (1, 2), 3)}
    keys = [leaves[leaf] for leaf in KEYS if leaf in leaves][:1]
    values = [leaves[leaf] for leaf in VALUES if leaf in leaves][:1]
    if not keys or not values:
        return {}
    return dict.fromkeys((*(() if normed else keys), *values), ((0,), 1))


def kv_scope(structure: Structure) -> frozenset[str]:
    """The attentions whose keys and values a recipe rounds without a rule of their own: those over all frames.

    They alone hold a cache that grows with the number of frames. A network that has none by name has all attentions
    in scope.
    """
    reached = [info for info in structure.branches.values() if kv_layers(info, normed=False)]
    across = [info.name for info in reached if structure.blocks[info.block].stream == "global"]
    return frozenset(across or (info.name for info in reached))
