"""A quantized network as an ONNX file, and such a file run by onnxruntime. The graph is `quantlab.deploy.graph`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.deploy.files import settled
from quantlab.deploy.graph import INPUT, trace
from quantlab.deploy.runtimes import require
from quantlab.storage import check_writable

LARGEST = 1_800_000_000
"""Bytes of weights in one file: a protobuf message ends at 2 GiB. Larger ones go into a second file beside it."""
PRODUCER = "quantlab"
HEAD = 64
"""Bytes at the beginning of a file in which its producer stands: protobuf writes fields by their numbers."""
Arrays = Mapping[str, NDArray[np.float32]]


def export_onnx(
    network: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write a quantized network as ONNX (opset 21), whole or not at all.

    Static activations become pairs of QuantizeLinear and DequantizeLinear, rounded weights integers behind a
    DequantizeLinear: int8 or uint8, in 4 bits where they fit. Everything else is float32.

    Args:
        network: As a lab's quantized twin; full precision does too.
        example: An input; the file takes inputs of its shape only.
        path: The .onnx file. Weights of more than 1.8 GB go into ``path`` + ".data".
        names: Outputs to keep; none names all.
        notes: Kept in the file's metadata.

    Raises:
        RecipeError: ONNX cannot hold what the network asks for: dynamic, 4-bit or twin activations, keys and values.
        StorageError: The file cannot be written.
        MissingLibraryError: onnx or onnxscript is not installed.
    """
    target = Path(path)
    check_writable(target)
    model = trace(network, example, names)
    write_onnx(model, target, notes=notes)
    return target


def write_onnx(model: Any, path: Path, *, notes: Mapping[str, str] | None = None) -> None:
    """Write an ``onnx_ir.Model``."""
    ir = require("onnx_ir")
    model.producer_name = PRODUCER
    model.metadata_props.update(notes or {})
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    beside = f"{path.name}.data" if size > LARGEST else None
    with settled(path) as hidden:
        ir.save(model, hidden, external_data=beside)


def run_onnx(path: str | Path, example: Tensor) -> Arrays:
    """What onnxruntime makes of one input on the CPU, by output name.

    Rounded weights under activations that are not rounded are multiplied in float32: onnxruntime would round those
    activations to 8 bits of its own accord. On processors without VNNI its product of uint8 and int8 can saturate;
    the comparison that follows an export shows it.

    Raises:
        MissingLibraryError: onnxruntime is not installed.
    """
    runtime = require("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {INPUT: example.cpu().numpy()}), strict=True))


def is_ours(path: Path) -> bool:
    """Whether a file is an ONNX file that QuantLab wrote; nothing of it is loaded."""
    try:
        with path.open("rb") as file:
            return PRODUCER.encode() in file.read(HEAD)
    except OSError:
        return False
