"""Small quantized networks to be packed, and the folder of one that was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quantlab as ql
from quantlab.engine import reconstruct
from quantlab.engine.calibrate import Calibration
from quantlab.engine.quantize import Quantizer
from quantlab.models.structure import describe
from quantlab.packed.read import read_packed
from quantlab.packed.write import Source, write_packed

TINY = {
    "aggregator": {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 24, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width, bias=False)
        self.k_norm = nn.LayerNorm(width // 2)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        del position
        q, k, v = (part.unflatten(-1, (2, -1)).transpose(-3, -2) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = nn.functional.scaled_dot_product_attention(q, self.k_norm(k), v)
        return self.proj(mixed.transpose(-3, -2).flatten(-2))


class Gain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width), Attention(width), Gain(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), position))
        return x + self.mlp(self.norm2(x))


class Small(nn.Module):
    """All kinds of layers, a class token that keys and values may protect, an embedding, a shared layer."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(1))
        self.first = self.last = nn.Linear(width, width)
        self.up = nn.ConvTranspose2d(width, 6, 3, 2, groups=2)
        self.register_buffer("mean", torch.tensor(0.5), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images - self.mean).flatten(2).transpose(1, 2)
        x = torch.cat((x.mean(1, keepdim=True), x), dim=1) + self.pos_embed
        grid = torch.cartesian_prod(torch.arange(4), torch.arange(4)) + 1
        position = torch.cat((torch.zeros(1, 2, dtype=grid.dtype), grid)).expand(len(x), -1, -1)
        x = self.first(x)
        for block in self.blocks:
            x = block(x, position)
        return self.up(self.last(x)[:, 1:].transpose(1, 2).unflatten(2, (4, 4)))


@pytest.fixture(autouse=True)
def one_epoch(monkeypatch) -> None:
    """The laws hold however long is learned."""
    whole = reconstruct.Schedule
    monkeypatch.setattr(reconstruct, "Schedule", lambda **given: whole(**{**given, "epochs": 1}))


@pytest.fixture(scope="session")
def bench() -> SimpleNamespace:
    """A quantizer of a small network, that network, and inputs for it."""
    torch.manual_seed(0)
    network = Small().eval()
    inputs = [torch.rand(2, 3, 16, 16) for _ in range(2)]
    return SimpleNamespace(
        network=network, inputs=inputs, quantizer=Quantizer(network, describe(network), Calibration(inputs))
    )


@pytest.fixture(scope="session")
def model() -> Any:
    """A tiny VGGT with random weights, as load_model would give it."""
    from quantlab.models.model import Model

    torch.manual_seed(0)
    return Model(ql.build_model("vggt", TINY), name="tiny")


@pytest.fixture
def pack(bench, tmp_path) -> Callable[..., Path]:
    """Write a quantized twin of the small network; answers the folder."""

    def write(folder: str = "packed", **settings: Any) -> Path:
        source = Source(None, {}, {"model": {"name": "small"}, "recipe": {}}, bits=settings.pop("bits", None))
        network = settings.pop("network", bench.quantizer.network)
        write_packed(network, tmp_path / folder, source, **{"rest": "float32", **settings})
        return tmp_path / folder

    return write


@pytest.fixture
def reread(bench) -> Callable[[Path], nn.Module]:
    """The network of a folder."""
    return lambda folder: read_packed(folder, network=bench.network).network
