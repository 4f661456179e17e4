"""Quantized layers as plain tensors and plain data, and back. It writes no files and knows no network.

A layer comes back bit for bit: codes, scales, smoothing and whatever else its parts hold. Parts are made again from a
closed table, the transforms and activations that this package knows; no name in a file is ever imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.errors import CheckpointError
from quantlab.kernels.activations import Activations
from quantlab.kernels.reference import Simulated, SimulatedConv2d, SimulatedConvTranspose2d, SimulatedLinear
from quantlab.methods.transforms import Transform
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.hadamard import Rotation
from quantlab.numerics.packing import pack, unpack
from quantlab.numerics.ranges import Range
from quantlab.numerics.rounding import dequantize

VALUES: Mapping[str, type] = {"QuantSpec": QuantSpec, "Rotation": Rotation}
"""Records that parts may hold."""
_OF_ANY_MODULE = frozenset(vars(nn.Module()))
Tensors = dict[str, Tensor]
Record = dict[str, Any]


def dissect(layer: Simulated) -> tuple[Record, Tensors]:
    """Take a layer apart, which is not changed.

    Returns:
        What is not tensors, as data that JSON takes; and the tensors, their names below those of the record.
    """
    record: Record = {"spec": None if layer.spec is None else _encode(layer.spec), "parts": {}}
    codes = layer.codes() if layer.keeps_its_codes() else None
    tensors = _kept(scale=layer.scale, zero_point=layer.zero_point, bias=layer.bias)
    if codes is not None and layer.spec is not None:
        record |= {"width": codes.shape[-1], "dtype": str(layer.weight.dtype).removeprefix("torch.")}
        tensors["codes"] = pack(codes, layer.spec)
    else:
        tensors["weight"] = layer.weight
    if isinstance(layer, SimulatedLinear):
        tensors |= _kept(down=layer.down, up=layer.up)
        parts = {f"transforms.{index}": part for index, part in enumerate(layer.transforms)}
        for name, part in {**parts, "activations": layer.activations}.items():
            if part is not None:
                record["parts"][name], own = _take_apart(part)
                tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    return record, {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def assemble(record: Mapping[str, Any], tensors: Mapping[str, Tensor], original: nn.Module) -> Simulated:
    """The layer that `dissect` took apart, in evaluation mode; the bias is shared with the full-precision original.

    Raises:
        CheckpointError: Something is missing, or of a kind that this version does not know.
    """
    try:
        return _assemble(record, tensors, original).eval()
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"the stored layer cannot be read: {error}",
            remedy="It was written by another version, or is damaged; remove it and quantize again.",
        ) from error


def _assemble(record: Mapping[str, Any], tensors: Mapping[str, Tensor], original: nn.Module) -> Simulated:
    spec = None if record["spec"] is None else _decode(record["spec"])
    chosen = None if spec is None else Range(tensors["scale"], tensors.get("zero_point"))
    rows = tensors.get("weight")
    if isinstance(original, nn.Linear):
        weight = _rows(record, tensors, spec, chosen) if rows is None else rows
        parts = {
            name: _put_together(part, name, tensors)
            for name, part in sorted(record["parts"].items(), key=_place)
        }
        branch = (tensors["down"], tensors["up"]) if "down" in tensors else None
        return SimulatedLinear(
            weight,
            original.bias,
            transforms=[part for name, part in parts.items() if name.startswith("transforms.")],  # type: ignore[misc]
            activations=parts.get("activations"),
            spec=spec,
            chosen=chosen,
            low_rank=branch,
        )
    if isinstance(original, nn.Conv2d | nn.ConvTranspose2d):
        kind = SimulatedConv2d if isinstance(original, nn.Conv2d) else SimulatedConvTranspose2d
        layer: Simulated = kind(original, original.weight.detach(), spec, chosen)  # type: ignore[arg-type]
        if rows is None:
            rows = layer.weight_of(_rows(record, tensors, spec, chosen), original.weight.shape)
        layer.weight = rows
        return layer
    raise TypeError(f"{type(original).__name__} is no quantizable layer")


def _rows(
    record: Mapping[str, Any], tensors: Mapping[str, Tensor], spec: QuantSpec | None, chosen: Range | None
) -> Tensor:
    if spec is None or chosen is None:
        raise KeyError("weight")
    dtype = getattr(torch, record["dtype"])
    return dequantize(unpack(tensors["codes"], spec, record["width"]), *chosen, spec, dtype=dtype)


def _take_apart(part: nn.Module) -> tuple[Record, Tensors]:
    """A transform or a rounding of activations: plain attributes and buffers."""
    if part._parameters or part._modules:  # noqa: SLF001 - these parts are made of buffers and plain values
        raise TypeError(f"{type(part).__name__} holds modules or parameters")
    plain = {name: _encode(value) for name, value in vars(part).items() if name not in _OF_ANY_MODULE}
    buffers = part._buffers  # noqa: SLF001 - absent ones are wanted too
    record = {"kind": type(part).__name__, "plain": plain, "buffers": list(buffers)}
    return record, {name: buffer for name, buffer in buffers.items() if buffer is not None}


def _put_together(record: Mapping[str, Any], place: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    kind = _kinds()[record["kind"]]
    part: nn.Module = kind.__new__(kind)
    nn.Module.__init__(part)
    for name, value in record["plain"].items():
        setattr(part, name, _decode(value))
    for name in record["buffers"]:
        part.register_buffer(name, tensors.get(f"{place}.{name}"))
    return part


def _kinds() -> dict[str, type[nn.Module]]:
    """All transforms and roundings of activations that are imported, by name."""
    found: dict[str, type[nn.Module]] = {}
    waiting: list[type[nn.Module]] = [Transform, Activations]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


def _encode(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (tuple, list):
        return {"list": [_encode(entry) for entry in value], "tuple": type(value) is tuple}
    if is_dataclass(value) and VALUES.get(type(value).__name__) is type(value):
        return {
            "value": type(value).__name__,
            "fields": {entry.name: _encode(getattr(value, entry.name)) for entry in fields(value)},
        }
    raise TypeError(f"a {type(value).__name__} cannot be stored")


def _decode(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "list" in value:
        entries = [_decode(entry) for entry in value["list"]]
        return tuple(entries) if value["tuple"] else entries
    return VALUES[value["value"]](**{name: _decode(entry) for name, entry in value["fields"].items()})


def _place(item: tuple[str, Any]) -> int:
    tail = item[0].rpartition(".")[2]
    return int(tail) if tail.isdecimal() else -1


def _kept(**tensors: Tensor | None) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
