"""What a small network of the field is made of, read from the modules themselves. Nothing here runs."""

from __future__ import annotations

import pytest
from torch import nn

from quantlab.models.structure import describe


def block() -> nn.Module:
    linears = {"attn": ("qkv", "proj"), "mlp": ("fc1", "fc2")}
    parts = {kind: nn.ModuleDict({name: nn.Linear(4, 4) for name in own}) for kind, own in linears.items()}
    return nn.ModuleDict({"norm1": nn.LayerNorm(4), "norm2": nn.LayerNorm(4), **parts})


@pytest.fixture(scope="session")
def structure():
    """Two streams of three blocks, and a head of convolutions."""
    streams = {
        f"{stream}_blocks": nn.ModuleList([block() for _ in range(3)]) for stream in ("frame", "global")
    }
    head = nn.ModuleDict(
        {
            "projects": nn.ModuleList([nn.Conv2d(4, 4, 1) for _ in range(2)]),
            "scratch": nn.ModuleDict({"output_conv1": nn.Conv2d(4, 4, 1)}),
        }
    )
    return describe(nn.ModuleDict({"aggregator": nn.ModuleDict(streams), "depth_head": head}))
