"""Quantized layers as plain tensors and plain data, and back. It writes no files and knows no network.

A layer comes back bit for bit: codes, scales, smoothing and whatever else its parts hold. Parts are made again from a
closed table, the transforms and activations that this package knows; no name in a file is ever imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.errors import CheckpointError, QuantLabError
from quantlab.kernels.activations import Activations
from quantlab.kernels.reference import (
    Simulated,
    SimulatedConv2d,
    SimulatedConvTranspose2d,
    SimulatedLinear,
    transposed_rows,
)
from quantlab.methods import block_hadamard, cosine, kronecker, regular_hadamard, rotation, smoothing
from quantlab.methods.kv import KVFormat
from quantlab.methods.transforms import Transform
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.hadamard import Rotation
from quantlab.numerics.packing import pack
from quantlab.numerics.ranges import Range

METHODS = (block_hadamard, cosine, kronecker, regular_hadamard, rotation, smoothing)
"""Imported so that their transforms are known."""
VALUES: Mapping[str, type] = {"KVFormat": KVFormat, "QuantSpec": QuantSpec, "Rotation": Rotation}
"""Records that parts may hold."""
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
_OF_ANY_MODULE = frozenset(vars(nn.Module()))
Tensors = dict[str, Tensor]
Record = dict[str, Any]


def dissect(layer: Simulated) -> tuple[Record, Tensors]:
    """Take a layer apart, which is not changed.

    Returns:
        What is not tensors, as data that JSON takes; and the tensors, their names below those of the record.
    """
    record: Record = {"spec": None if layer.spec is None else encode(layer.spec), "parts": {}}
    record["dtype"] = str(layer.weight_dtype).removeprefix("torch.")
    tensors = _kept(scale=layer.scale, zero_point=layer.zero_point, bias=layer.bias)
    codes = _packed_codes(layer)
    if codes is None:
        tensors["weight"] = layer.weight
    else:
        record["width"] = layer.weight_shape.numel() // len(codes)
        tensors["codes"] = codes
    if isinstance(layer, SimulatedLinear):
        tensors |= _kept(down=layer.down, up=layer.up)
        parts = {f"transforms.{index}": part for index, part in enumerate(layer.transforms)}
        for name, part in {**parts, "activations": layer.activations}.items():
            if part is not None:
                record["parts"][name], own = _take_apart(part)
                tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    return record, {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _packed_codes(layer: Simulated) -> Tensor | None:
    """None where codes do not give the weight back."""
    if layer.spec is None or not layer.keeps_its_codes():
        return None
    codes = layer.packed if layer.is_packed else layer.codes()
    return codes if codes is None or layer.is_packed else pack(codes, layer.spec)


def assemble(
    record: Mapping[str, Any], tensors: Mapping[str, Tensor], original: nn.Module, *, held: bool = False
) -> Simulated:
    """The layer that `dissect` took apart, in evaluation mode; the bias is shared with the full-precision original.

    Args:
        record: Of the layer.
        tensors: Of the layer; they are not copied.
        original: Says the kind of the layer and its sizes; its weight is not read.
        held: Whether the layer keeps packed codes (and a weight in a narrower format than its own) as they are.

    Raises:
        CheckpointError: Something is missing, or of a kind that this version does not know.
    """
    with readable("the stored layer"):
        return _assemble(record, tensors, original, held=held).eval()


@contextmanager
def readable(what: str, place: str = "") -> Iterator[None]:
    """Say in words what a damaged or foreign record causes while it is read.

    Raises:
        CheckpointError: The block found something missing, or of another kind than it can be.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, QuantLabError) as error:
        if isinstance(error, CheckpointError) and error.place:
            raise
        reason = error.problem if isinstance(error, QuantLabError) else str(error).partition("\n")[0]
        raise CheckpointError(
            f"{what} cannot be read: {reason}",
            place=place,
            remedy="It was written by another version, or is damaged; write it again.",
        ) from error


def _assemble(
    record: Mapping[str, Any], tensors: Mapping[str, Tensor], original: nn.Module, *, held: bool
) -> Simulated:
    if not isinstance(original, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        raise TypeError(f"{type(original).__name__} is no quantizable layer")
    spec = None if record["spec"] is None else decode(record["spec"])
    chosen = None if spec is None else Range(tensors["scale"], tensors.get("zero_point"))
    shape, dtype = original.weight.shape, dtype_of(record["dtype"])
    codes, weight = tensors.get("codes"), tensors.get("weight")
    narrow = held and spec is None and weight is not None and weight.dtype != dtype
    if codes is None and not narrow:
        return _module(record, tensors, original, tensors["weight"], spec, chosen)
    layer = _module(record, tensors, original, torch.empty(shape, dtype=dtype, device="meta"), spec, chosen)
    if codes is None:
        rows = layer.rows_of(tensors["weight"])
        layer.hold(rows, dtype, rows.shape[-1])
    else:
        layer.hold(codes, dtype, record["width"])
    if not held:
        whole = layer.weight
        del layer.packed
        layer.register_buffer("weight", whole)
    return layer


def _module(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    original: nn.Linear | nn.Conv2d | nn.ConvTranspose2d,
    weight: Tensor,
    spec: QuantSpec | None,
    chosen: Range | None,
) -> Simulated:
    if isinstance(original, nn.Conv2d):
        return SimulatedConv2d(original, weight, spec, chosen)
    if isinstance(original, nn.ConvTranspose2d):
        return SimulatedConvTranspose2d(original, weight, spec, chosen)
    parts = {
        name: _put_together(part, name, tensors) for name, part in sorted(record["parts"].items(), key=_place)
    }
    return SimulatedLinear(
        weight,
        original.bias,
        transforms=[part for name, part in parts.items() if name.startswith("transforms.")],  # type: ignore[misc]
        activations=parts.get("activations"),
        spec=spec,
        chosen=chosen,
        low_rank=(tensors["down"], tensors["up"]) if "down" in tensors else None,
    )


def rows_shape(original: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> torch.Size:
    """Shape of a layer's weight as a matrix, one output channel a row; the weight may be on the meta device."""
    if isinstance(original, nn.ConvTranspose2d):
        return transposed_rows(original.weight, original.groups).shape
    return original.weight.flatten(1).shape


def dtype_of(name: str) -> torch.dtype:
    """A floating format by its name.

    Raises:
        KeyError: There is none of that name.
    """
    return DTYPES[name]


def _take_apart(part: nn.Module) -> tuple[Record, Tensors]:
    """A transform or a rounding of activations: plain attributes and buffers."""
    if part._parameters or part._modules:  # noqa: SLF001 - these parts are made of buffers and plain values
        raise TypeError(f"{type(part).__name__} holds modules or parameters")
    plain = {name: encode(value) for name, value in vars(part).items() if name not in _OF_ANY_MODULE}
    buffers = part._buffers  # noqa: SLF001 - absent ones are wanted too
    record = {"kind": type(part).__name__, "plain": plain, "buffers": list(buffers)}
    return record, {name: buffer for name, buffer in buffers.items() if buffer is not None}


def _put_together(record: Mapping[str, Any], place: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    kind = _kinds()[record["kind"]]
    part: nn.Module = kind.__new__(kind)
    nn.Module.__init__(part)
    for name, value in record["plain"].items():
        if name.startswith("_") or hasattr(part, name):
            raise ValueError(f"{record['kind']} has no attribute {name!r} of its own")
        setattr(part, name, decode(value))
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


def encode(value: Any) -> Any:
    """A plain value, or one of `VALUES`, as data that JSON takes.

    Raises:
        TypeError: It is neither.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (tuple, list):
        return {"list": [encode(entry) for entry in value], "tuple": type(value) is tuple}
    if is_dataclass(value) and VALUES.get(type(value).__name__) is type(value):
        return {
            "value": type(value).__name__,
            "fields": {entry.name: encode(getattr(value, entry.name)) for entry in fields(value)},
        }
    raise TypeError(f"a {type(value).__name__} cannot be stored")


def decode(value: Any) -> Any:
    """The inverse of `encode`.

    Raises:
        KeyError, TypeError, RecipeError: It is not what `encode` makes.
    """
    if not isinstance(value, Mapping):
        return value
    if "list" in value:
        entries = [decode(entry) for entry in value["list"]]
        return tuple(entries) if value["tuple"] else entries
    return VALUES[value["value"]](**{name: decode(entry) for name, entry in value["fields"].items()})


def _place(item: tuple[str, Any]) -> int:
    tail = item[0].rpartition(".")[2]
    return int(tail) if tail.isdecimal() else -1


def _kept(**tensors: Tensor | None) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
