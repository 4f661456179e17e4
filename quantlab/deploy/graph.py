"""From a quantized network to an ONNX graph of QuantizeLinear and DequantizeLinear around plain operators. No files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.deploy.attention import traced_attention
from quantlab.deploy.layers import OPSET, deployed
from quantlab.deploy.refusals import require_network
from quantlab.deploy.rotation import rotation_from_nine
from quantlab.deploy.runtimes import quiet, require
from quantlab.engine.subject import named_outputs
from quantlab.engine.twin import twin
from quantlab.errors import RecipeError, SceneError
from quantlab.kernels.reference import Simulated
from quantlab.models.layers import Attention
from quantlab.models.pi3_heads import PoseHead
from quantlab.models.places import Places
from quantlab.models.vit import VisionTransformer

INPUT = "images"


class Traced(nn.Module):
    """A network whose chosen outputs come as a tuple, in the order of their names."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the network for ``images``."""
        outputs = named_outputs(self.network(images))
        return tuple(outputs[name] for name in self.names)


def trace(network: nn.Module, example: Tensor, names: Sequence[str] = (), *, target: str = "ONNX") -> Any:
    """The network as an ``onnx_ir.Model`` for inputs of exactly the shape of ``example``.

    Args:
        network: Quantized, as a lab's twin; it is run once, and not changed.
        example: Its input; the shape is fixed, the values do not matter.
        names: Its outputs to keep, in this order; none names all.
        target: Named in a refusal.

    Raises:
        RecipeError: The target cannot hold what the network asks for, or torch cannot trace it.
        SceneError: The example is no tensor.
        MissingLibraryError: onnx or onnxscript is not installed.
    """
    require_network(network, target)
    require("onnxscript")
    if not isinstance(example, Tensor):
        raise SceneError(
            f"{target} takes one tensor, and the input is a {type(example).__name__}", place="example"
        )
    with torch.no_grad():
        # This also fills the caches of constant tables: while a trace runs only stand-ins of tensors could go in.
        outputs = named_outputs(network(example))
    names = names or [name for name, output in outputs.items() if output is not example]
    missing = [name for name in names if name not in outputs]
    if missing:
        raise RecipeError(
            f"the network, called with its input alone, gives no {missing[0]!r}",
            place=type(network).__name__,
            remedy="Wrap it in a module that takes one tensor.",
        )
    model = tidy(_program(Traced(stand_in(network, example), names), example, names, target).model)
    narrow(model)
    return model


def stand_in(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy whose quantized layers are ONNX operators; what ONNX lacks is replaced by what says the same."""
    copy = twin(network, hooks=False)
    places = Places(copy)
    for name, module in list(copy.named_modules()):
        if isinstance(module, Simulated):
            places.put(name, deployed(module))
        elif isinstance(module, Attention):
            module.core = traced_attention
        elif isinstance(module, VisionTransformer):
            _fix_position(module, example)
        elif isinstance(module, PoseHead):
            module.__dict__["rotation"] = rotation_from_nine
    return copy


def tidy(model: Any) -> Any:
    """Without what the tracer leaves behind: shapes worked out anew, doubles, and notes that name local files.

    The rewriting of operators that the exporter offers besides takes half of its time, and runtimes do it anyway.
    """
    common = require("onnx_ir.passes.common")
    model = common.ClearMetadataAndDocStringPass()(model).model
    require("onnxscript.optimizer").fold_constants(model)
    for kind in (
        common.RemoveUnusedNodesPass,
        common.LiftConstantsToInitializersPass,
        common.DeduplicateInitializersPass,
        common.CommonSubexpressionEliminationPass,
    ):
        model = kind()(model).model
    return model


def narrow(model: Any) -> None:
    """Store codes that fit into 4 bits as 4 bits."""
    ir, ml_dtypes = require("onnx_ir"), require("ml_dtypes")
    limits = {
        ir.DataType.INT8: (ir.DataType.INT4, ml_dtypes.int4, -8, 7),
        ir.DataType.UINT8: (ir.DataType.UINT4, ml_dtypes.uint4, 0, 15),
    }
    for node in model.graph:
        if node.op_type != "DequantizeLinear" or not node.inputs[0].is_initializer():
            continue
        stored = [node.inputs[index] for index in (0, 2) if len(node.inputs) > index and node.inputs[index]]
        if stored[0].dtype not in limits:
            continue
        kind, dtype, low, high = limits[stored[0].dtype]
        values = [value.const_value.numpy() for value in stored]
        if all(low <= codes.min() and codes.max() <= high for codes in values if codes.size):
            for value, codes in zip(stored, values, strict=True):
                value.const_value = ir.tensor(codes.astype(dtype), dtype=kind, name=value.name)
                value.dtype = kind


def _program(module: Traced, example: Tensor, names: Sequence[str], target: str) -> Any:
    try:
        with torch.no_grad(), quiet():
            return torch.onnx.export(
                module.eval(),
                (example,),
                input_names=[INPUT],
                output_names=list(names),
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise RecipeError(
            f"torch cannot write this network for {target}: {reason}",
            place=type(module.network).__name__,
            remedy="Export the packed checkpoint instead.",
        ) from error


def _fix_position(encoder: VisionTransformer, example: Tensor) -> None:
    """Resample the position embedding now: the size is fixed, and runtimes differ in bicubic resampling."""
    with torch.no_grad():
        fixed = encoder.position(*example.shape[-2:]).detach().clone()
    encoder.register_buffer("fixed_position", fixed)
    encoder.__dict__["position"] = lambda *_: encoder.fixed_position
