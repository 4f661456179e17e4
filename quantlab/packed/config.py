"""`config.json` of a packed checkpoint: which network, and the formats of its layers in compressed-tensors' words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantlab.errors import CheckpointError
from quantlab.models.checkpoint import CONFIG, JSON_LIMIT
from quantlab.packed.layers import decode

FORMATS = "quantization_config"


def config_of(
    kind: str | None, sizes: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The table to write.

    Args:
        kind: Of the network, as `build_model` takes it; None where it is none of ours.
        sizes: Likewise.
        layers: Records of the quantized layers.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, record in layers.items():
        formats = {"weights": _weights(record), "input_activations": _inputs(record)}
        groups.setdefault(json.dumps(formats), {**formats, "targets": []})["targets"].append(name)
    table = {f"group_{index}": group for index, group in enumerate(groups.values())}
    quantized = {"quant_method": "quantlab", "format": "pack-quantized", "config_groups": table}
    return {"kind": kind, **sizes, FORMATS: quantized}


def read_config(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """Kind and sizes of the network.

    Raises:
        CheckpointError: The file is missing or no such table.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise CheckpointError("the JSON file is far too large", place=str(path))
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        table = None
    if not isinstance(table, dict) or not isinstance(table.get("kind"), str | None):
        raise CheckpointError("the file describes no network", place=str(path), remedy="Export it again.")
    kind = table.pop("kind", None)
    table.pop(FORMATS, None)
    return kind, table


def _weights(record: Mapping[str, Any]) -> dict[str, Any] | None:
    return None if record["spec"] is None else _format(record["spec"])


def _inputs(record: Mapping[str, Any]) -> dict[str, Any] | None:
    part = record["parts"].get("activations")
    if part is None:
        return None
    return _format(part["plain"]["spec"]) | {"dynamic": part["kind"] != "StaticActivations"}


def _format(encoded: Any) -> dict[str, Any]:
    spec = decode(encoded)
    group = {"group_size": spec.group_size} if spec.granularity == "group" else {}
    return {
        "num_bits": spec.bits,
        "type": "int",
        "symmetric": spec.symmetric,
        "strategy": spec.granularity,
        **group,
    }
