"""The networks this package can build, by name. It reads no files: loading is in zoo.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from quantlab.errors import CheckpointError
from quantlab.models.config import VGGTConfig
from quantlab.models.config_pi3 import Pi3Config
from quantlab.models.pi3 import Pi3
from quantlab.models.pi3x import Pi3X
from quantlab.models.reconstruction import Reconstruction
from quantlab.models.shapes import shapes_only
from quantlab.models.vggt import VGGT
from quantlab.registry import Registry

NETWORKS: Registry[Callable[[Mapping[str, Any] | None], Reconstruction]] = Registry(
    "network", CheckpointError
)


@NETWORKS.register("vggt")
def build_vggt(config: Mapping[str, Any] | None) -> VGGT:
    """VGGT with the sizes in ``config``, or the released 1.26 billion parameters."""
    return VGGT(VGGTConfig() if config is None else VGGTConfig.from_dict(config))


@NETWORKS.register("pi3")
def build_pi3(config: Mapping[str, Any] | None) -> Pi3:
    """Pi3 with the sizes in ``config``, or the released 959 million parameters."""
    return Pi3(Pi3Config() if config is None else Pi3Config.from_dict(config))


@NETWORKS.register("pi3x")
def build_pi3x(config: Mapping[str, Any] | None) -> Pi3X:
    """Pi3X's image path with the sizes in ``config``, or the released 992 million parameters."""
    return Pi3X(Pi3Config.from_dict(config or {}, extended=True))


def build_model(
    kind: str, config: Mapping[str, Any] | None = None, *, device: str | torch.device | None = None
) -> Reconstruction:
    """Build a network with fresh random weights and the published state-dict names.

    Args:
        kind: "vggt", "pi3" or "pi3x".
        config: Sizes in the form of checkpoint metadata; None is the released size.
        device: Where to make the weights; "meta" makes names and shapes only.

    Raises:
        CheckpointError: An unknown kind, an unknown key, or sizes that do not fit together.
    """
    builder = NETWORKS[kind]
    place = torch.device(device or "cpu")
    if place.type == "meta":
        with shapes_only():
            return builder(config)
    with place:
        network = builder(config)
    return network.to(place)
