"""load_model: from a name or a path to a Model that predicts. Formats and matching have files of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from quantlab.assets import asset
from quantlab.errors import CheckpointError, DeviceError
from quantlab.models.assign import network_for
from quantlab.models.checkpoint import open_checkpoint
from quantlab.models.hub import hub_file
from quantlab.models.model import Model
from quantlab.models.networks import build_model
from quantlab.models.outliers import plant_outliers
from quantlab.models.vggt import VGGT
from quantlab.registry import Registry

__all__ = ["MODELS", "Source", "build_model", "load_model"]

SHOWN = 60
"""Characters of a name that a message repeats."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights of a named model are, whether outliers are planted, and whether it was trained on our rooms."""

    find: Callable[[], Path]
    planted: bool = False
    rooms: bool = False


MODELS: Registry[Source] = Registry("model", CheckpointError)
MODELS.register("mini")(Source(lambda: asset("mini.safetensors"), rooms=True))
MODELS.register("mini-outliers")(Source(lambda: asset("mini.safetensors"), planted=True, rooms=True))
MODELS.register("pi3-mini")(Source(lambda: asset("pi3-mini.safetensors"), rooms=True))
MODELS.register("vggt-1b")(Source(lambda: hub_file("vggt-1b")))
MODELS.register("pi3")(Source(lambda: hub_file("pi3")))
MODELS.register("pi3x")(Source(lambda: hub_file("pi3x")))


def load_model(path_or_name: str | Path, *, device: str = "cpu", dtype: str = "float32") -> Model:
    """Load a built-in or released model by name, or a checkpoint by path.

    Args:
        path_or_name: "mini", "mini-outliers" (mini with outliers planted; the same function), "pi3-mini", "vggt-1b",
            "pi3" or "pi3x" (from the hub's cache, or downloaded), or the path of a .safetensors or .pt file or a
            folder of shards.
        device: "cpu", "cuda", "cuda:1" ...
        dtype: "float32", or "bfloat16" for the published mixed precision: products of the trunk in bfloat16,
            norms, residual stream and heads in float32. The weights stay float32, and mapped.

    Raises:
        CheckpointError: An unknown name, or a file that cannot be used.
        DeviceError: A device or dtype this machine does not have.
    """
    chosen_device, precision = device_of(device), dtype_of(dtype)
    source = None if str(path_or_name) not in MODELS and _exists(path_or_name) else _source(path_or_name)
    path = source.find() if source else Path(path_or_name)
    checkpoint = open_checkpoint(path)
    _, network = network_for(checkpoint)
    network.compute_dtype = precision
    if source and source.planted and isinstance(network, VGGT):
        plant_outliers(network)
    try:
        network.to(chosen_device)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"the weights ({checkpoint.nbytes / 1e9:.1f} GB) do not fit on {device}",
            remedy="Free memory on the device, or use device='cpu'.",
        ) from error
    mapped = any(tensor.dtype == torch.float32 for tensor in checkpoint.tensors.values())
    return Model(
        network,
        name=str(path_or_name) if source else path.name,
        path=path,
        stamps=checkpoint.stamps if mapped and chosen_device.type == "cpu" else (),
        planted=bool(source and source.planted),
    )


def _exists(path: str | Path) -> bool:
    """Whether a file or folder is there.

    Raises:
        CheckpointError: The system cannot look: the name is too long for it, or the folder is closed.
    """
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        text = str(path)
        raise CheckpointError(
            f"no model can be looked for there: {getattr(error, 'strerror', None) or error}",
            place=text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)",
            remedy=f"Give a path, or one of: {', '.join(sorted(MODELS))}.",
        ) from None
    return True


def _source(path_or_name: str | Path) -> Source | None:
    """The source of a name; None for what can only be meant as a path."""
    text = str(path_or_name)
    if text in MODELS:
        return MODELS[text]
    if isinstance(path_or_name, Path) or "/" in text or "\\" in text or Path(text).suffix:
        return None
    return MODELS[text]


def device_of(name: str) -> torch.device:
    """The device of a name.

    Raises:
        DeviceError: This machine has none.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            f"there is no device {name!r} here: {str(error).splitlines()[0]}",
            remedy="Use device='cpu', or install a torch build for this accelerator.",
        ) from None
    return device


def dtype_of(name: str) -> torch.dtype:
    """The precision of a trunk by its name.

    Raises:
        DeviceError: It is not offered.
    """
    if name not in DTYPES:
        raise DeviceError(f"dtype {name!r} is not offered", remedy=f"Choose one of: {', '.join(DTYPES)}.")
    return DTYPES[name]
