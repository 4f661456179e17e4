"""load_model for everything: a packed checkpoint, with the kernels it runs on, or what `models.zoo` loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from quantlab.errors import CheckpointError, DeviceError, RecipeError
from quantlab.kernels import attention as attentions
from quantlab.kernels.choose import Execution, execute
from quantlab.kernels.compute import lower
from quantlab.kernels.stored import refuse_pickle
from quantlab.memory import release
from quantlab.models import zoo
from quantlab.models.fingerprint import weights_digest
from quantlab.models.model import Model
from quantlab.models.networks import build_model
from quantlab.models.reconstruction import Reconstruction
from quantlab.packed.manifest import is_packed
from quantlab.packed.read import Opened, read_packed


class PackedModel(Model):
    """A Model whose network runs out of a packed checkpoint.

    Attributes:
        execution: Which kernel executes each layer, and why.
        recipe: How it was quantized, as plain data.
        provenance: Where it comes from: model, digest of its weights, seed, scenes, versions, date, drift.
    """

    def __init__(self, opened: Opened, execution: Execution, *, name: str, path: Path) -> None:
        network, content = opened.network, opened.manifest.content
        if not isinstance(network, Reconstruction):
            raise CheckpointError("the checkpoint is of no reconstruction network", place=str(path))
        planted = bool(content["model"].get("planted", False))
        super().__init__(network, name=name, path=path, stamps=opened.stamps, planted=planted)
        self.execution = execution
        self.recipe: Mapping[str, Any] = content["recipe"]
        left_out = ("layers", "parameters", "standins", "files", "recipe")
        self.provenance = {key: value for key, value in content.items() if key not in left_out}

    def __repr__(self) -> str:
        execution = self.execution.summary().partition("\n")[0]
        return f"PackedModel({self.name!r}, {self.bytes / 1e6:.1f} MB, {execution}, {self.device})"

    __getstate__ = refuse_pickle

    @property
    def bytes(self) -> int:
        """Size of the weights on the disk."""
        return sum(stamp.size for stamp in self._stamps)

    @property
    def full_bytes(self) -> int:
        """What the parameters of such a network take in 16 bits."""
        unpacked = build_model(self.family, self.config, device="meta")
        return 2 * sum(parameter.numel() for parameter in unpacked.parameters())

    @property
    def sha256(self) -> str:
        """Digest of the packed weights; that of the weights they were made from is in ``provenance``."""
        if self._sha256 is None:
            self._sha256 = weights_digest(self._stamps[0].path.parent)
        return self._sha256


def load_model(
    path_or_name: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    kernel: str = "auto",
    compute: str = "float32",
    attention: str = "auto",
    verify: bool = False,
) -> Model:
    """Load a model to predict with: built in, released, a checkpoint, or a folder that `Lab.export` wrote.

    Args:
        path_or_name: As `quantlab.models.zoo.load_model` takes it, or a packed folder.
        device: "cpu", "cuda", "cuda:1" ...
        dtype: "float32", or "bfloat16" for the published mixed precision.
        kernel: Of a packed folder: "auto" takes the fastest of this machine for each layer, as measured now;
            "reference" computes what the lab simulates; or another name of `quantlab.kernels.table.KERNELS`, and layers
            that it refuses are simulated.
        compute: Of a packed folder: "float32", or "bfloat16" for everything between the quantized layers.
        attention: Of a packed folder: "auto" is torch's in float32, and the fastest of this machine in bfloat16;
            "native" in float32 rounds queries, keys and values alone to bfloat16, and halves the time of a block;
            or another name of `quantlab.kernels.attention.ATTENTIONS`.
        verify: Of a packed folder: read every file and compare its digest before anything else.

    Raises:
        CheckpointError: An unknown name, or a file that cannot be used.
        DeviceError: A device or dtype this machine does not have; or a named kernel or attention that cannot run here.
        RecipeError: An unknown kernel, or a choice of kernels for a network without quantized layers.
    """
    if not is_packed(path_or_name):
        if (kernel, compute, attention) != ("auto", "float32", "auto"):
            raise RecipeError(
                "only a packed checkpoint has kernels to choose",
                place=str(path_or_name),
                remedy="Leave kernel, compute and attention out, or load a folder that lab.export wrote.",
            )
        return zoo.load_model(path_or_name, device=device, dtype=dtype)
    return load_packed(
        path_or_name,
        device=device,
        dtype=dtype,
        kernel=kernel,
        compute=compute,
        attention=attention,
        verify=verify,
    )


def load_packed(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    kernel: str = "auto",
    compute: str = "float32",
    attention: str = "auto",
    verify: bool = False,
) -> PackedModel:
    """As `load_model`, of a packed folder."""
    path, place, precision = Path(folder), zoo.device_of(device), zoo.dtype_of(dtype)
    opened = read_packed(path, verify=verify)
    network = opened.network.to(place)
    execution = execute(network, kernel=kernel, compute=compute)
    model = PackedModel(opened, execution, name=path.name, path=path)
    model.network.compute_dtype = precision
    lower(network, compute)
    release()  # what the trials of kernels held
    model.execution = replace(execution, attention=_attention(network, attention, compute))
    return model


def _attention(network: nn.Module, name: str, compute: str) -> str:
    used = attentions.use_attention(network, name, compute=compute)
    if name not in (attentions.AUTO, used):
        raise DeviceError(
            f"the attention {name!r} cannot run here: {attentions.why_not(name)}",
            remedy='Use attention="auto" or attention="torch".',
        )
    return used
