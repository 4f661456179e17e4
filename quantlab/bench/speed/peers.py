"""The rivals: torchao, ONNX Runtime, OpenVINO. Each is optional, takes the same module, and has its reason when absent.

zentorch is no rival here but a kernel of ours. What each is given is what its own documentation recommends for this
kind of network on a processor; nothing leaves the machine.
"""

from __future__ import annotations

import copy
import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from quantlab.bench.speed.clock import Run
from quantlab.bench.speed.contenders import Contender
from quantlab.bench.speed.subject import Subject
from quantlab.errors import MissingLibraryError
from quantlab.kernels.compute import lower

Facts = dict[str, Any]
Peer = Callable[[Subject, Contender], tuple[Run, Facts]]
EXTRA = "Install quantlab[bench]."
GROUP = 128


def library(name: str) -> Any:
    """An optional library, silenced.

    Raises:
        MissingLibraryError: It is not installed, or does not fit what is; says which.
    """
    os.environ.setdefault("OPENVINO_TELEMETRY_DISABLE", "1")
    os.environ.setdefault("NNCF_TELEMETRY_DISABLE", "1")
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        absent = getattr(error, "name", None) == package
        raise MissingLibraryError(
            f"{package} is not installed" if absent else f"{package} cannot be loaded: {error}", remedy=EXTRA
        ) from error


def torchao(subject: Subject, contender: Contender) -> tuple[Run, Facts]:
    """Dynamic W8A8, per token and per channel, eager."""
    quantization, dtype = library("torchao.quantization"), getattr(torch, contender.compute)
    module = copy.deepcopy(subject.module).to(dtype)
    with torch.no_grad(), quiet():
        quantization.quantize_(module, quantization.Int8DynamicActivationInt8WeightConfig())
    return subject.run(module, dtype), {}


def torchao_compiled(subject: Subject, contender: Contender) -> tuple[Run, Facts]:
    """Likewise, by torch.compile with frozen weights, which is its faster way on a processor."""
    run, _ = torchao(subject, contender)
    inductor = library("torch._inductor.config")

    def call() -> object:
        with inductor.patch(freezing=True), quiet():
            return compiled()

    torch._dynamo.reset()  # noqa: SLF001 - its own way to forget what others compiled
    compiled = torch.compile(run)
    return call, {}


def torchao_int8(subject: Subject, _: Contender) -> tuple[Run, Facts]:
    """Dynamic W8A8, per token and per channel, on a GPU, eager."""
    return _by_torchao(subject, library("torchao.quantization").Int8DynamicActivationInt8WeightConfig())


def torchao_float8(subject: Subject, _: Contender) -> tuple[Run, Facts]:
    """Likewise, of 8-bit floating point."""
    quantization = library("torchao.quantization")
    rows = quantization.PerRow()
    return _by_torchao(subject, quantization.Float8DynamicActivationFloat8WeightConfig(granularity=rows))


def torchao_int4(subject: Subject, _: Contender) -> tuple[Run, Facts]:
    """4-bit weights, a scale for every 128 columns, in the layout of torch's own product."""
    config = library("torchao.quantization").Int4WeightOnlyConfig
    return _by_torchao(subject, config(group_size=GROUP, int4_packing_format="tile_packed_to_4d"))


def _by_torchao(subject: Subject, config: Any) -> tuple[Run, Facts]:
    """A whole network in bfloat16, of whose Linears those are quantized that are in bfloat16 and of fitting widths."""

    def fits(module: torch.nn.Module, _: str) -> bool:
        if not isinstance(module, torch.nn.Linear) or module.weight.dtype != torch.bfloat16:
            return False
        return all(size % GROUP == 0 for size in module.weight.shape)

    network = copy.deepcopy(subject.module)
    lower(network, "bfloat16")
    with torch.no_grad(), quiet():
        library("torchao.quantization").quantize_(network, config, filter_fn=fits)
    return subject.run(network), {}


def onnxruntime(subject: Subject, _: Contender) -> tuple[Run, Facts]:
    """ONNX Runtime: weights QInt8 per channel, activations per tensor from each input."""
    runtime, quantization = library("onnxruntime"), library("onnxruntime.quantization")
    onnx, _needed = library("onnx"), library("onnxscript")
    with tempfile.TemporaryDirectory() as folder, quiet():
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        torch.onnx.export(
            subject.module, (subject.input,), plain, dynamo=True, external_data=False, verbose=False
        )
        model = onnx.load(plain)
        del model.graph.value_info[
            :
        ]  # shapes that quantization then finds contradicted by its own transposes
        quantization.quantize_dynamic(
            model, small, weight_type=quantization.QuantType.QInt8, per_channel=True
        )
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = subject.group.threads, 1
        session = runtime.InferenceSession(small, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: subject.input.numpy()}
    return lambda: session.run(None, given), {}


def openvino_static(subject: Subject, _: Contender) -> tuple[Run, Facts]:
    """OpenVINO: static W8A8 by nncf's post-training quantization for transformers."""
    nncf = library("nncf")
    model = _converted(subject)
    with quiet():
        quantized = nncf.quantize(
            model,
            nncf.Dataset([subject.input.numpy()]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=1,
        )
    return _compiled(quantized, subject)


def openvino_int8(subject: Subject, _: Contender) -> tuple[Run, Facts]:
    """OpenVINO: int8 weights."""
    nncf = library("nncf")
    with quiet():
        smaller = nncf.compress_weights(_converted(subject), mode=nncf.CompressWeightsMode.INT8_SYM)
    return _compiled(smaller, subject)


def openvino_int4(subject: Subject, _: Contender) -> tuple[Run, Facts]:
    """OpenVINO: int4 weights, a scale for every 128 columns."""
    nncf = library("nncf")
    with quiet():
        mode = nncf.CompressWeightsMode.INT4_SYM
        smaller = nncf.compress_weights(_converted(subject), mode=mode, group_size=GROUP, all_layers=True)
    return _compiled(smaller, subject)


PEERS: Mapping[str, Peer] = {
    "torchao": torchao,
    "torchao_compiled": torchao_compiled,
    "torchao_int8": torchao_int8,
    "torchao_float8": torchao_float8,
    "torchao_int4": torchao_int4,
    "onnxruntime": onnxruntime,
    "openvino_static": openvino_static,
    "openvino_int8": openvino_int8,
    "openvino_int4": openvino_int4,
}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and progress that peers print while they convert."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            warnings.simplefilter("ignore")
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
    finally:
        logging.disable(before)


def _converted(subject: Subject) -> Any:
    openvino = library("openvino")
    with torch.no_grad(), quiet():
        shape = list(subject.input.shape)
        return openvino.convert_model(subject.module, example_input=subject.input, input=[shape])


def _compiled(model: Any, subject: Subject) -> tuple[Run, Facts]:
    options = {"INFERENCE_NUM_THREADS": subject.group.threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = library("openvino").Core().compile_model(model, "CPU", options)
    request, given = compiled.create_infer_request(), [subject.input.numpy()]
    precision = compiled.get_property("INFERENCE_PRECISION_HINT")
    facts = {"arithmetic": str(precision.to_string() if hasattr(precision, "to_string") else precision)}
    return lambda: request.infer(given, share_inputs=True, share_outputs=True), facts
