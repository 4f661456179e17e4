"""What a group computes: a linear, a block or a whole network with random weights, and its input. It times nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.bench.speed.clock import Run
from quantlab.bench.speed.plan import PROFILE, SHAPES, Group, Shapes
from quantlab.models.layers import Block
from quantlab.models.networks import build_model
from quantlab.models.rotary import frame_tables

SPECIALS = 5
NOISE = 1 << 22
SPREAD = 0.02
CORNER = 84  # a multiple of every patch size
ROUNDED = (torch.float32, torch.bfloat16)


class Subject:
    """A float32 module with random weights, and an input for it.

    Args:
        group: What is to be computed.

    Attributes:
        module: In evaluation mode; contenders work on copies that share its weights.
        input: float32: ``[tokens, width]`` of a linear, ``[1, tokens, width]`` of a block, ``[1, frames, 3, H, W]`` in
            [0, 1] of a whole network. On the device of the group, as the module.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.shapes = SHAPES[group.shapes]
        torch.manual_seed(0)
        module, given = _MAKERS[group.level](group, self.shapes)
        self.module, self.input = module.to(group.device).eval(), given.to(group.device)

    def look_at(self, group: Group) -> None:
        """Take the input of another group that runs the same whole network."""
        self.group, self.input = group, _pictures(group, self.shapes).to(group.device)

    def run(self, module: Callable[[Tensor], Any], dtype: torch.dtype = torch.float32) -> Run:
        """A call of ``module`` on the input, without gradients.

        A whole network is run at once on a corner of one picture: what is prepared at the first call is not timed.
        """
        x = self.input if self.group.whole else self.input.to(dtype)

        def call(x: Tensor = x) -> object:
            with torch.no_grad():
                return module(x)

        if self.group.whole:
            call(x[:, :1, :, :CORNER, :CORNER])
        return call


class RotaryBlock(nn.Module):
    """A block of the trunk with its rotary tables inside, so that it takes one tensor.

    Attributes:
        rotary_dtype: Of the tables; None: that of the input.
    """

    rotary_dtype: torch.dtype | None = None

    def __init__(self, shapes: Shapes, tokens: int) -> None:
        super().__init__()
        side, frames = math.isqrt(shapes.tokens - SPECIALS), tokens // shapes.tokens
        where = (side, side, SPECIALS, shapes.width // shapes.heads)
        self.blocks = nn.ModuleList([Block(shapes.width, shapes.heads, qk_norm=True)])
        self.tables = {
            dtype: frame_tables(*where, dtype, torch.device("cpu")).repeat(frames) for dtype in ROUNDED
        }

    def forward(self, x: Tensor) -> Tensor:
        """``[1, tokens, width]`` to the same."""
        out: Tensor = self.blocks[0](x, self.tables[self.rotary_dtype or x.dtype])
        return out


def random_network(config: Mapping[str, Any]) -> nn.Module:
    """A VGGT with random weights that bfloat16 holds exactly, made without a second copy."""
    network = build_model("vggt", config, device="meta")
    materialise(network)
    return network


def materialise(module: nn.Module, first: int = 0) -> None:
    """Give every parameter on the meta device random values; the ``first`` tells equal modules apart."""
    for index, (name, parameter) in enumerate(list(module.named_parameters())):
        if parameter.is_meta:
            owner, _, attribute = name.rpartition(".")
            made = nn.Parameter(values(name, parameter, first + index), requires_grad=False)
            setattr(module.get_submodule(owner), attribute, made)


def values(name: str, parameter: Tensor, index: int) -> Tensor:
    """Random float32 values for a parameter of this name and shape.

    They do not decide a speed: one stretch of noise, begun elsewhere for every weight, serves all. Gains are 1, those
    of branches small, so that nothing overflows.
    """
    if name.endswith("gamma"):
        return torch.full(parameter.shape, 0.05)
    if parameter.dim() == 1 and name.endswith("weight"):  # of a normalisation
        return torch.ones(parameter.shape)
    count, start = parameter.numel(), 7919 * index % NOISE
    noise = _noise()[start : start + min(count, NOISE)]
    return noise.repeat(-(-count // NOISE))[:count].reshape(parameter.shape)


def released(depth: int = 0, *, track: bool = False) -> dict[str, Any]:
    """The released sizes, cut to ``depth`` blocks if asked; the tracker runs only where points are asked for."""
    depth = depth or 24
    config: dict[str, Any] = {
        "aggregator": {"depth": depth},
        "vit": {"depth": depth},
        "camera_head": {"trunk_depth": min(4, depth)},
        "dpt": {"intermediate_layer_idx": _layers(depth)},
    }
    return {**config, "track": {"features": 128}} if track else config


def _layers(depth: int) -> list[int]:
    return [4, 11, 17, 23] if depth == 24 else [round((depth - 1) * index / 3) for index in range(4)]


@lru_cache(maxsize=1)
def _noise() -> Tensor:
    noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0))
    return (noise * SPREAD).bfloat16().float().repeat(2)


def _linear(group: Group, shapes: Shapes) -> tuple[nn.Module, Tensor]:
    inputs, outputs = shapes.linears()[group.part]
    return nn.Sequential(nn.Linear(inputs, outputs)), torch.randn(group.size, inputs)


def _block(group: Group, shapes: Shapes) -> tuple[nn.Module, Tensor]:
    return RotaryBlock(shapes, group.size), torch.randn(1, group.size, shapes.width)


def _forward(group: Group, shapes: Shapes) -> tuple[nn.Module, Tensor]:
    config = released(group.depth) if shapes.config is None else shapes.config
    return random_network(config), _pictures(group, shapes)


def _pictures(group: Group, shapes: Shapes) -> Tensor:
    """Float32 in [0, 1], whatever the network computes in."""
    return torch.rand(1, group.size, 3, *shapes.picture)


_MAKERS = {"linear": _linear, "block": _block, "forward": _forward, PROFILE: _forward}
