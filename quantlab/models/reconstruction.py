"""What a Model asks of its network, whatever the family: the base of VGGT and Pi3. It computes nothing."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import nn


class Sizes(Protocol):
    """A configuration: sizes of a network as plain data."""

    @property
    def img_size(self) -> int:
        """Side of the pictures the position embedding was made for."""

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""

    def to_dict(self) -> dict[str, Any]:
        """The form ``build_model`` takes, for JSON."""


class Reconstruction(nn.Module):
    """A network from images [B, S, 3, H, W] to outputs by name.

    Attributes:
        kind: The name under which ``build_model`` builds it and FAMILIES reads it.
        config: Its sizes, of a type of its own.
        compute_dtype: float32, or bfloat16 for the published mixed precision.
        stream_dtype: Of the residual stream and what reads it; float32 unless `quantlab.kernels.compute` lowered it.
        kept_in_float32: Parts that compute in float32 whatever the stream does.
    """

    kind: ClassVar[str]
    kept_in_float32: ClassVar[tuple[str, ...]] = ()
    config: Any
    compute_dtype: torch.dtype
    stream_dtype: torch.dtype

    def __init__(self) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.stream_dtype = torch.float32

    @property
    def sizes(self) -> Sizes:
        """The sizes it was built with."""
        sizes: Sizes = self.config
        return sizes
