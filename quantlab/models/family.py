"""What differs between families of networks around the network: pictures in, tokens, outputs read. No weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.errors import CheckpointError, NumericError, SceneError
from quantlab.models.prediction import Prediction
from quantlab.models.preprocess import Mode
from quantlab.models.tokens import TokenLayout
from quantlab.registry import Registry

Points = Literal["depth", "head"]
POINTS = ("depth", "head")


@dataclass(frozen=True, slots=True)
class Family:
    """How the networks of one family are fed and read; the same for those of this package and for upstream's modules.

    Attributes:
        mode: How pictures are brought to the released size.
        outputs: The names by which the outputs of any module are known to be this family's.
        echoes: Outputs that are the input handed back.
        marks: Names in a state dict by which a checkpoint without metadata is known to be this family's.
        decode: ``decode(outputs, tensor, name, points)`` gives a Prediction; ``name`` is what people call the network.
        cloud: ``cloud(outputs, tensor)`` gives the points [S, H, W, 3] of that Prediction as a tensor in float64 that
            gradients pass through; nothing is checked.
        layout: How the tokens of an input [1, S, 3, H, W] lie, or None for a module of another family.
        ignored: Beginnings of names in a released checkpoint that the network here does not have.
    """

    mode: Mode
    outputs: frozenset[str]
    marks: frozenset[str]
    decode: Callable[[Mapping[str, Tensor], Tensor, str, Points], Prediction]
    cloud: Callable[[Mapping[str, Tensor], Tensor], Tensor]
    layout: Callable[[nn.Module, Tensor], TokenLayout | None]
    echoes: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()


FAMILIES: Registry[Family] = Registry("family", CheckpointError)


def family_by_outputs(outputs: Collection[str]) -> Family | None:
    """The family whose published output names are all there."""
    found = (FAMILIES[name] for name in FAMILIES)
    return next((family for family in found if family.outputs <= set(outputs)), None)


def kind_by_names(names: Collection[str]) -> str | None:
    """The kind of network whose released checkpoints have such names."""
    kinds = (kind for kind in FAMILIES if FAMILIES[kind].marks <= set(names))
    return next(kinds, None)


def layout_of(network: nn.Module, tensor: Tensor) -> TokenLayout | None:
    """How the tokens of an input lie in a network of any known family, ours or upstream's."""
    layouts = (FAMILIES[name].layout(network, tensor) for name in FAMILIES)
    return next((layout for layout in layouts if layout is not None), None)


def check_outputs(outputs: Mapping[str, Tensor], needed: Collection[str], name: str) -> None:
    """Raise CheckpointError for a missing output, NumericError for one that is not finite."""
    for output in needed:
        if output not in outputs:
            raise CheckpointError(
                f"the network computes no {output!r}",
                place=name,
                remedy="Choose a checkpoint with that head.",
            )
        if not bool(torch.isfinite(outputs[output]).all()):
            raise NumericError(
                f"the network's output {output!r} holds a NaN or an infinity",
                place=name,
                remedy="Check the weights, or the scales of the quantized layers.",
            )


def check_points(points: str) -> None:
    """Raise SceneError for a kind of points that does not exist."""
    if points not in POINTS:
        raise SceneError(f"there are no points {points!r}", remedy="Choose 'depth' or 'head'.")


def pictures_of(tensor: Tensor) -> NDArray[np.uint8]:
    """A network's input [1, S, 3, H, W] in [0, 1] as uint8 [S, H, W, 3]."""
    pictures = (tensor[0].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(pictures)


def scene_array(output: Tensor) -> Any:
    """An output of one scene as float32 in numpy, without the batch axis."""
    return output[0].float().cpu().numpy()
