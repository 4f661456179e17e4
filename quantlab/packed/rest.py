"""What a recipe leaves alone, in the file and while it runs: kept weights, tokens, embeddings. No codes of layers.

Vectors and small tensors are exact. A matrix takes the narrowest format that holds it exactly, else the one asked for,
and is widened at each use. A large parameter that belongs to no layer may be rounded as weights are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.errors import CheckpointError, RecipeError
from quantlab.kernels.stored import Unpacked, Widened, hang_stored
from quantlab.models.structure import LAYERS
from quantlab.numerics.formats import QuantSpec, scale_shape
from quantlab.numerics.packing import pack
from quantlab.numerics.ranges import minmax_range
from quantlab.numerics.rounding import quantize
from quantlab.packed.layers import decode, dtype_of, encode

RESTS = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LARGE = 1 << 16
"""Numbers from which a parameter outside all layers counts as a matrix."""
GROUP = 128
EMBEDDING_BITS = 8
"""At least, of parameters that are added instead of multiplied: position embeddings."""
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def narrow(tensor: Tensor, rest: str) -> Tensor:
    """A matrix in the narrowest of three formats that holds it exactly, else in ``rest``; float64 stays.

    Raises:
        RecipeError: ``rest`` is neither "bfloat16" nor "float32".
    """
    check_rest(rest)
    if tensor.dtype != torch.float32:
        return tensor
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(tensor, (smaller := tensor.to(dtype)).float()):
            return smaller
    return tensor.to(RESTS[rest])


def check_rest(rest: str) -> None:
    """Refuse what is no format for the rest.

    Raises:
        RecipeError: It is neither "bfloat16" nor "float32".
    """
    if rest not in RESTS:
        raise RecipeError(
            f"what is kept cannot be stored as {rest!r}", place="rest", remedy=f"Use {' or '.join(RESTS)}."
        )


def is_matrix(module: nn.Module, attribute: str, tensor: Tensor) -> bool:
    """Whether a tensor that a module holds is a kept matrix: a layer's weight, or a large one outside all layers."""
    if isinstance(module, LAYERS):
        return attribute == "weight"
    return tensor.dim() > 1 and tensor.numel() >= LARGE


def rounding_of(name: str, module: nn.Module, tensor: Tensor, bits: int | None) -> QuantSpec | None:
    """How a parameter outside all layers is rounded; None where it is kept.

    Our reading: a recipe of scope "all" means the whole network, and these are weights of it under another name.

    Args:
        name: Of the parameter.
        module: That holds it.
        tensor: Itself.
        bits: Of the recipe's weights; None where nothing outside of layers is rounded.
    """
    if bits is None or isinstance(module, LAYERS) or not is_matrix(module, "", tensor):
        return None
    bits = bits if name.endswith("weight") else max(bits, EMBEDDING_BITS)
    width = tensor.shape[-1]
    group = max(size for size in range(1, min(width, GROUP) + 1) if width % size == 0)
    return QuantSpec(bits, granularity="group", group_size=group)


def round_parameter(tensor: Tensor, spec: QuantSpec, place: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and tensors of a rounded parameter, the latter by what follows its name in the file.

    Raises:
        NumericError: It holds a NaN or an infinity.
    """
    rows = tensor.detach().reshape(-1, tensor.shape[-1])
    chosen = minmax_range(rows, spec, place=place)
    codes = pack(quantize(rows, *chosen, spec, place=place), spec)
    record = {
        "spec": encode(spec),
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }
    return record, {"_packed": codes, "_scale": chosen.scale}


def hang_rounded(
    module: nn.Module, name: str, record: Mapping[str, Any], packed: Tensor, scale: Tensor, shape: torch.Size
) -> None:
    """Let a module read a parameter out of packed codes.

    Raises:
        CheckpointError: The tensors are not those of such a parameter.
    """
    spec = decode(record["spec"])
    if not isinstance(spec, QuantSpec) or not spec.symmetric:
        raise CheckpointError("the parameter has no format of ours", remedy="Export the checkpoint again.")
    rows = (shape.numel() // shape[-1], shape[-1])
    width, dtype = (-(-rows[1] // 2), torch.uint8) if spec.bits <= 4 else (rows[1], torch.int8)
    fits = tuple(packed.shape) == (rows[0], width) and packed.dtype == dtype
    if not fits or tuple(scale.shape) != scale_shape(rows, spec) or scale.dtype != torch.float32:
        raise CheckpointError(
            "the codes or scales of a parameter have another shape", remedy="Export the checkpoint again."
        )
    hang_stored(module, name, packed, Unpacked(spec, scale, shape, dtype_of(record["dtype"])))


def hang_kept(module: nn.Module, name: str, stored: Tensor) -> None:
    """Give a module a tensor of the file in place of that on the meta device.

    A matrix that is narrower than the module's own stays so, and is widened when it is read; anything else is
    converted here.
    """
    own = getattr(module, name)
    if stored.dtype != own.dtype and is_matrix(module, name, stored):
        hang_stored(module, name, stored, Widened(own.dtype))
        return
    value = stored.to(own.dtype)
    if name in module._parameters:  # noqa: SLF001 - setattr would not replace a parameter of another kind
        value = nn.Parameter(value, requires_grad=False)
        module._parameters[name] = value  # noqa: SLF001
    else:
        module._buffers[name] = value  # noqa: SLF001
