"""A quantized network as OpenVINO's intermediate representation, by way of ONNX, and such files run by OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from quantlab.deploy.files import settled
from quantlab.deploy.graph import INPUT, trace
from quantlab.deploy.onnx_file import Arrays, write_onnx
from quantlab.deploy.runtimes import require
from quantlab.storage import check_writable

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
"""Without it OpenVINO computes what is float32 in bfloat16 where the processor can, and rounds more activations."""

MARK = "quantlab"
"""Where the runtime information of a file that we wrote keeps our notes."""


def export_openvino(
    network: nn.Module,
    example: Tensor,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write a quantized network as ``path`` (.xml) and its weights beside it (.bin).

    The ONNX graph is read by OpenVINO's own frontend in this process: its conversion tool, which reports its use over
    the network, is not called. Integers stay integers; what is float32 stays float32.

    Args:
        network: As a lab's quantized twin; full precision does too.
        example: An input; the files take inputs of its shape only.
        path: The .xml file.
        names: Outputs to keep; none names all.
        notes: Kept in the file's runtime information, under `MARK`.

    Raises:
        RecipeError: OpenVINO cannot hold what the network asks for, as `export_onnx`.
        StorageError: The files cannot be written.
        MissingLibraryError: openvino, onnx or onnxscript is not installed.
    """
    target = Path(path).with_suffix(".xml")
    check_writable(target)
    require("openvino")
    graph = trace(network, example, names, target="OpenVINO")
    with TemporaryDirectory(prefix=".", suffix=".quantlab-part", dir=target.parent) as folder:
        between = Path(folder) / "model.onnx"
        write_onnx(graph, between)
        convert(between, target, notes=notes)
    return target


def convert(source: Path, path: Path, *, notes: Mapping[str, str] | None = None) -> None:
    """An ONNX file as OpenVINO's representation."""
    openvino = require("openvino")
    model = openvino.Core().read_model(source)
    for key, value in (notes or {}).items():
        model.set_rt_info(value, [MARK, key])
    with settled(path) as hidden:
        openvino.save_model(model, hidden, compress_to_fp16=False)


def run_openvino(path: str | Path, example: Tensor) -> Arrays:
    """What OpenVINO makes of one input on the CPU, in float32 where it is not integers; by output name.

    Raises:
        MissingLibraryError: openvino is not installed.
    """
    openvino = require("openvino")
    settings = {**EXACT, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    result = compiled({INPUT: example.cpu().numpy()})
    return {name: result[output].copy() for output in compiled.outputs for name in output.names}


def is_ours(path: Path) -> bool:
    """Whether a file is a representation with our notes."""
    try:
        return f"<{MARK}>".encode() in path.read_bytes()
    except OSError:
        return False
