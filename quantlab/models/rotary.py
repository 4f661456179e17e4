"""Two-dimensional rotary position embedding: tables for a patch grid, and their application. No learned state."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

BASE = 100.0


class RotaryTables(NamedTuple):
    """Cosines and signed sines, both [..., tokens, head_dim]; the sign carries the minus of the rotation."""

    cos: Tensor
    sin: Tensor

    def repeat(self, frames: int) -> RotaryTables:
        """Tables for the tokens of ``frames`` frames in a row: the encoding knows no frame index."""
        return RotaryTables(self.cos.repeat(frames, 1), self.sin.repeat(frames, 1))


def rotary_tables(positions: Tensor, head_dim: int, dtype: torch.dtype) -> RotaryTables:
    """Tables for integer (y, x) ``positions`` [..., tokens, 2]; the first half of a head encodes y, the second x.

    The angles are rounded to ``dtype`` before cosine and sine, as the published code does when a whole network
    is converted to bfloat16.

    Source:
        Su et al. 2021 (arXiv:2104.09864), per axis, with base 100 and channels rotated in half splits.
    """
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half
    angles = (positions[..., None].float() * (1.0 / BASE**exponents)).to(dtype)
    cos, sin = angles.cos(), angles.sin()
    paired_cos = torch.stack((cos, cos), dim=-2)
    paired_sin = torch.stack((-sin, sin), dim=-2)
    return RotaryTables(paired_cos.flatten(-3), paired_sin.flatten(-3))


def rotate(x: Tensor, tables: RotaryTables) -> Tensor:
    """Rotate queries or keys ``x`` [batch, heads, tokens, head_dim]."""
    swapped = x.unflatten(-1, (2, 2, x.shape[-1] // 4)).flip(-2).flatten(-3)
    return x * tables.cos + swapped * tables.sin


def grid_positions(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """(y, x) of every patch of a grid in row-major order, counted from 0: int64 [rows * columns, 2]."""
    y = torch.arange(rows, device=device)
    x = torch.arange(columns, device=device)
    return torch.cartesian_prod(y, x).view(-1, 2)


@lru_cache(maxsize=16)
def frame_tables(
    rows: int, columns: int, specials: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> RotaryTables:
    """Tables of one frame: ``specials`` tokens at (0, 0), then the patches, shifted by one so that 0 stays theirs."""
    # Tables cached while inference mode is on could not be used in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        patches = grid_positions(rows, columns, device) + 1
        positions = torch.cat((patches.new_zeros(specials, 2), patches))
        return rotary_tables(positions, head_dim, dtype)
