"""What every network checks of its input and how it lowers its precision. No modules."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from quantlab.errors import SceneError


def check_images(images: Tensor, patch: int) -> None:
    """Raise SceneError unless ``images`` is [B, S, 3, H, W] with H and W multiples of ``patch``."""
    height, width = images.shape[-2:]
    if images.dim() != 5 or images.shape[2] != 3 or 0 in images.shape or height % patch or width % patch:
        raise SceneError(
            f"the network's input is {list(images.shape)}",
            place="images",
            remedy=f"Give [S, 3, H, W] or [B, S, 3, H, W] with H and W multiples of {patch}.",
        )


def precision(device: str, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast for a reduced ``dtype``; for float32 whatever the caller has set stays in force."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)
