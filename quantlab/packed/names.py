"""What the tensors of a packed layer are called in the file, and their shapes there. It reads and writes nothing.

The names are those of compressed-tensors' "pack-quantized" (up to 4 bits) and "int-quantized" (above) formats:

    NAME.weight_packed         uint8 ``[out, ceil(in / 2)]``, two codes to a byte, the first in the lower half
    NAME.weight                int8 or uint8 codes ``[out, in]`` above 4 bits; or the weight itself where it is kept
    NAME.weight_scale          float32 ``[out, 1]``, ``[out, groups]`` or ``[1]``
    NAME.weight_zero_point     uint8, of the same shape
    NAME.weight_shape          int64, the shape of the full weight
    NAME.input_scale           of static activations, and input_zero_point
    NAME.low_rank_down, _up    the branch beside the weight
    NAME.transforms.N.BUFFER   divisors, learned factors, orders of channels; never a rotation
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from quantlab.errors import CheckpointError
from quantlab.numerics.formats import QuantSpec, scale_shape
from quantlab.packed.layers import decode

PACKED, SHAPE = "weight_packed", "weight_shape"
_RENAMED = {
    "scale": "weight_scale",
    "zero_point": "weight_zero_point",
    "activations.scale": "input_scale",
    "activations.zero_point": "input_zero_point",
    "down": "low_rank_down",
    "up": "low_rank_up",
}
_ORIGINAL = {stored: own for own, stored in _RENAMED.items()}
ZERO_POINTS = ("weight_zero_point", "input_zero_point")
SCALES = ("weight_scale", "input_scale", *ZERO_POINTS)


def to_file(record: Mapping[str, Any], tensors: Mapping[str, Tensor], shape: torch.Size) -> dict[str, Tensor]:
    """What `quantlab.packed.layers.dissect` gave as it lies in the file, by the last part of the names.

    Args:
        record: Of one layer.
        tensors: Of that layer.
        shape: Of its weight.
    """
    names = dict(_RENAMED)
    if "codes" in tensors:
        names["codes"] = _codes_name(decode(record["spec"]))
    stored = {names.get(own, own): _filed(names.get(own, own), tensor) for own, tensor in tensors.items()}
    if PACKED in stored:
        stored[SHAPE] = torch.tensor(shape, dtype=torch.int64)
    return stored


def from_file(
    stored: Mapping[str, Tensor], record: Mapping[str, Any], rows: torch.Size, shape: torch.Size
) -> dict[str, Tensor]:
    """The inverse of `to_file`; nothing but zero points is copied.

    Args:
        stored: Tensors of one layer by the last part of their names.
        record: Of the layer.
        rows: Shape of its weight as a matrix.
        shape: Of its weight.

    Raises:
        CheckpointError: A tensor has another shape or dtype than the record asks for.
    """
    spec = None if record["spec"] is None else decode(record["spec"])
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name == SHAPE:
            _require(name, tensor, (len(shape),), torch.int64)
            if tuple(tensor.tolist()) != tuple(shape):
                raise _wrong(name, f"{tensor.tolist()} instead of {list(shape)}")
        elif spec is not None and "width" in record and name == _codes_name(spec):
            width = -(-rows[1] // 2) if name == PACKED else rows[1]
            dtype = torch.int8 if name != PACKED and spec.symmetric else torch.uint8
            tensors["codes"] = _require(name, tensor, (rows[0], width), dtype)
        else:
            tensors[_ORIGINAL.get(name, name)] = tensor
    if "codes" in tensors and record["width"] != rows[1]:
        raise _wrong("width", f"{record['width']} instead of {rows[1]}")
    if spec is not None:
        _weight_scales(tensors, spec, rows)
    for own in ("activations.scale", "activations.zero_point"):
        if own in tensors:
            tensors[own] = _input_scale(_RENAMED[own], tensors[own], record)
    return tensors


def _codes_name(spec: QuantSpec) -> str:
    return PACKED if spec.bits <= 4 else "weight"


def _filed(name: str, tensor: Tensor) -> Tensor:
    if name in ZERO_POINTS and tensor.numel() and int(tensor.amin()) >= 0 and int(tensor.amax()) <= 255:
        tensor = tensor.to(torch.uint8)
    if name not in SCALES or tensor.dim() > 1:
        return tensor
    return tensor.reshape(-1, 1) if tensor.dim() and name.startswith("weight") else tensor.reshape(-1)


def _weight_scales(tensors: dict[str, Tensor], spec: QuantSpec, rows: torch.Size) -> None:
    shape = scale_shape(rows, spec)
    filed = (shape or (1,)) if len(shape) != 1 else (*shape, 1)
    scale = _require("weight_scale", tensors.get("scale"), filed, torch.float32)
    tensors["scale"] = scale.reshape(shape)
    if ("zero_point" in tensors) == spec.symmetric:
        raise _wrong("weight_zero_point", "a symmetric format has none, an asymmetric one needs it")
    if not spec.symmetric:
        tensors["zero_point"] = _integers("weight_zero_point", tensors["zero_point"], filed).reshape(shape)


def _input_scale(name: str, tensor: Tensor, record: Mapping[str, Any]) -> Tensor:
    """One for the whole tensor is the only static scale there is."""
    spec = decode(record["parts"]["activations"]["plain"]["spec"])
    if spec.granularity != "tensor":
        raise _wrong(name, f"a scale per {spec.granularity} cannot be fixed")
    if name in ZERO_POINTS:
        return _integers(name, tensor, (1,)).reshape(())
    return _require(name, tensor, (1,), torch.float32).reshape(())


def _integers(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tensor.dtype not in (torch.uint8, torch.int32):
        raise _wrong(name, f"{tensor.dtype} are no zero points")
    return _require(name, tensor, shape, tensor.dtype).int()


def _require(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if tensor is None:
        raise _wrong(name, "it is absent")
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
        found = f"{tensor.dtype} {list(tensor.shape)}".removeprefix("torch.")
        raise _wrong(name, f"{found} instead of {dtype} {list(shape)}".replace("torch.", ""))
    return tensor


def _wrong(name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the tensor {name!r} is not what its layer needs: {reason}", remedy="Export the checkpoint again."
    )
