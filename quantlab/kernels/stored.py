"""Weights that are stored otherwise than they are read: narrower, or as packed codes. No products are here."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from quantlab.errors import CheckpointError
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.packing import unpack
from quantlab.numerics.rounding import dequantize


class Widened(nn.Module):
    """A weight that is stored narrow and read in another dtype, as a parametrization of it.

    Args:
        dtype: What readers of the weight see.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def compute_in(self, dtype: torch.dtype) -> None:
        """Let readers see another dtype from now on."""
        self.dtype = dtype

    def forward(self, stored: Tensor) -> Tensor:
        """The stored numbers in the dtype that is read."""
        return stored.to(self.dtype)


class Unpacked(Widened):
    """A parameter that is stored as packed codes and worked out at each use, as a parametrization of it.

    Args:
        spec: Its format.
        scale: float32, as `quantlab.numerics.formats.scale_shape` of the parameter as a matrix.
        shape: Of the parameter.
        dtype: What readers see.
    """

    scale: Tensor

    def __init__(self, spec: QuantSpec, scale: Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.spec, self.shape = spec, shape
        self.register_buffer("scale", scale)

    def forward(self, stored: Tensor) -> Tensor:
        """From the codes to the parameter."""
        codes = unpack(stored, self.spec, self.shape[-1])
        return dequantize(codes, self.scale, None, self.spec, dtype=self.dtype).reshape(self.shape)


def hang_stored(module: nn.Module, name: str, stored: Tensor, reader: Widened) -> None:
    """Let a module read its parameter ``name`` through ``reader`` from now on; what is stored is not copied."""
    kind = type(module)
    module._parameters[name] = nn.Parameter(stored, requires_grad=False)  # noqa: SLF001 - of another dtype and shape
    parametrize.register_parametrization(module, name, reader, unsafe=True)
    # torch makes a class for each such module; it is still one of the package of its own.
    type(module).__module__ = kind.__module__
    type(module).__getstate__ = refuse_pickle  # type: ignore[method-assign]


def refuse_pickle(_: object) -> NoReturn:
    """In place of ``__getstate__``, of what is read out of a packed checkpoint.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(
        "a network out of a packed checkpoint is not saved by torch.save or pickle",
        remedy="The exported folder is the file: copy that, and quantlab.load_model reads it.",
    )
