"""Putting a checkpoint's tensors into a network: recognise, compare names and shapes, assign. It reads no files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from quantlab.errors import CheckpointError, NumericError
from quantlab.models.checkpoint import Checkpoint
from quantlab.models.family import FAMILIES, kind_by_names
from quantlab.models.networks import NETWORKS, build_model
from quantlab.models.reconstruction import Reconstruction

SHOWN = 5
# Reading every number of a larger file would undo the mapping; a NaN there is reported by the first forward pass.
CHECKED_BYTES = 256 << 20


def network_for(checkpoint: Checkpoint) -> tuple[str, Reconstruction]:
    """The kind of a checkpoint and its network, with the checkpoint's tensors in place and in evaluation mode.

    The kind and sizes come from the metadata, or, without them, from the released network whose names and shapes
    the file has; what a released file holds for parts that the network here does not have (Pi3X's conditioning) is
    left out by name. Nothing is changed or allocated before everything is known to fit.

    Raises:
        CheckpointError: The names or shapes are those of no known network.
        NumericError: A tensor of a small file holds a NaN or an infinity.
    """
    config = checkpoint.config
    kind = checkpoint.metadata.get("kind") or kind_by_names(checkpoint.tensors)
    if kind is None and (config is None or "aggregator" in config):
        kind = "vggt"  # what it lacks of one is said below
    if kind is None:
        raise CheckpointError(
            "the metadata describe a network of another kind",
            place=str(checkpoint.path),
            remedy=f"Known kinds: {', '.join(NETWORKS)}.",
        )
    network = build_model(kind, config, device="meta")
    wanted = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if not name.startswith(FAMILIES[kind].ignored)
    }
    check_names(network, wanted, str(checkpoint.path))
    tensors = {name: _as_float32(tensor) for name, tensor in wanted.items()}
    if checkpoint.nbytes <= CHECKED_BYTES:
        check_finite(tensors, str(checkpoint.path))
    network.load_state_dict(tensors, strict=True, assign=True)
    return kind, network.requires_grad_(False).eval()


def check_names(network: nn.Module, tensors: Mapping[str, Tensor], place: str) -> None:
    """Raise CheckpointError unless ``tensors`` has exactly the names and shapes of the network's state dict."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unexpected:
        raise CheckpointError(
            "the weights are another network's: "
            f"{len(missing)} missing{_list(missing)}, {len(unexpected)} unexpected{_list(unexpected)}",
            place=place,
            remedy="Choose the checkpoint of this model, or one whose metadata hold its configuration.",
        )
    wrong = [name for name in expected if expected[name] != found[name]]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{len(wrong)} tensors have another shape, first {name!r}: "
            f"{list(found[name])} instead of {list(expected[name])}",
            place=place,
            remedy="Choose a checkpoint of the same sizes.",
        )


def check_finite(tensors: Mapping[str, Tensor], place: str) -> None:
    """Raise NumericError naming the first tensor with a NaN or an infinity."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise NumericError(
                f"the weights {name!r} hold a NaN or an infinity",
                place=place,
                remedy="Use a checkpoint from before training diverged.",
            )


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float32 else tensor.float()


def _list(names: Iterable[str]) -> str:
    shown = sorted(names)
    if not shown:
        return ""
    more = ", ..." if len(shown) > SHOWN else ""
    return f" ({', '.join(shown[:SHOWN])}{more})"


def metadata(kind: str, config: Mapping[str, object]) -> dict[str, str]:
    """The metadata that make a saved safetensors file loadable by path alone."""
    return {"kind": kind, "config": json.dumps(config)}
