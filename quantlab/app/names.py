"""How layers are called where there is little room. The full name stays in every hover text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from quantlab.figures.outlier_map import KINDS, STREAM_NAMES, Placed


def short_name(layer: Placed) -> str:
    """``aggregator.global_blocks.3.mlp.fc2`` as ``global 3 · fc2``; a head's layer without what its stream says."""
    stream = STREAM_NAMES.get(layer.stream, layer.stream)
    if layer.index >= 0 and layer.kind in KINDS:
        return f"{stream} {layer.index} · {layer.kind}"
    parts = layer.name.split(".")
    if layer.stream in parts:
        return f"{stream} · {'.'.join(parts[parts.index(layer.stream) + 1 :]) or layer.name}"
    return f"{stream} · {'.'.join(parts[-2:])}" if layer.stream and len(parts) > 2 else layer.name


def distinct_names(layers: Iterable[Placed]) -> dict[str, str]:
    """Full name to short name; where two would be called alike, both keep their full name."""
    short = {layer.name: short_name(layer) for layer in layers}
    count = Counter(short.values())
    return {name: label if count[label] == 1 else name for name, label in short.items()}
