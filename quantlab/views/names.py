"""How layers are called where there is little room. The full name stays in every hover text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from quantlab.figures.outlier_map import KINDS, STREAM_NAMES, Placed

if TYPE_CHECKING:
    from quantlab.models.structure import Structure


def short_name(layer: Placed) -> str:
    """``aggregator.global_blocks.3.mlp.fc2`` as ``global 3 · fc2``; a head's layer without what its stream says."""
    stream = STREAM_NAMES.get(layer.stream, layer.stream)
    if layer.index >= 0 and layer.kind in KINDS:
        return f"{stream} {layer.index} · {layer.kind}"
    parts = layer.name.split(".")
    if layer.stream in parts:
        inside = ".".join(parts[parts.index(layer.stream) + 1 :])
        inside = inside.removeprefix("scratch.")  # a word of the published names that says nothing
        return f"{stream} · {inside or layer.name}"
    return f"{stream} · {'.'.join(parts[-2:])}" if layer.stream and len(parts) > 2 else layer.name


def distinct_names(layers: Iterable[Placed]) -> dict[str, str]:
    """Full name to short name; where two would be called alike, both keep their full name."""
    short = {layer.name: short_name(layer) for layer in layers}
    count = Counter(short.values())
    return {name: label if count[label] == 1 else name for name, label in short.items()}


def short_text(text: str, structure: Structure) -> str:
    """What a job says of itself, with the layers, branches and blocks in it called by their short names."""
    return " ".join(_called(word, structure) for word in text.split(" "))


def _called(word: str, structure: Structure) -> str:
    name = word.rstrip(",")
    layer, branch = structure.layers.get(name), structure.branches.get(name)
    block = structure.blocks.get(branch.block if branch is not None else name)
    if layer is not None:
        return short_name(layer) + word[len(name) :]
    if block is None:
        return word
    stream = STREAM_NAMES.get(block.stream, block.stream) or block.name
    parts = [stream, *([str(block.index)] if block.index >= 0 else []), *([branch.kind] if branch else [])]
    return " ".join(parts) + word[len(name) :]
