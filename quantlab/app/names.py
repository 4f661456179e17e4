"""How layers are called where there is little room. The full name stays in every hover text."""

from __future__ import annotations

from quantlab.figures.outlier_map import KINDS, STREAM_NAMES, Placed


def short_name(layer: Placed) -> str:
    """``aggregator.global_blocks.3.mlp.fc2`` as ``global 3 · fc2``; a head's layer by the last parts of its name."""
    stream = STREAM_NAMES.get(layer.stream, layer.stream)
    if layer.index >= 0 and layer.kind in KINDS:
        return f"{stream} {layer.index} · {layer.kind}"
    parts = layer.name.split(".")
    tail = ".".join(parts[-2:])
    return f"{stream} · {tail}" if layer.stream and len(parts) > 2 else layer.name
