"""A network with its pictures: preprocess, run, decode. Where the weights come from is zoo.py's matter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantlab.errors import CheckpointError, DeviceError
from quantlab.models import read_pi3, read_vggt  # noqa: F401  # they register themselves
from quantlab.models.checkpoint import Stamp
from quantlab.models.family import FAMILIES, Points
from quantlab.models.fingerprint import network_digest, weights_digest
from quantlab.models.prediction import Prediction
from quantlab.models.preprocess import Mode, Picture, preprocess
from quantlab.models.reconstruction import Reconstruction
from quantlab.models.tokens import TokenLayout

PUBLISHED_SIZE = 518


class Model:
    """A reconstruction network in evaluation mode, and how pictures go in and a Prediction comes out.

    Args:
        network: A VGGT or a Pi3; it is put into evaluation mode.
        name: What the user calls it; the kind of the network where it has no name.
        path: The weight file, for ``sha256``.
        stamps: The mapped files, checked before each prediction.
        planted: Outliers were planted artificially.

    Attributes:
        family: "vggt", "pi3" or "pi3x".
        config: The sizes as plain data.
    """

    def __init__(
        self,
        network: Reconstruction,
        *,
        name: str = "",
        path: Path | None = None,
        stamps: Sequence[Stamp] = (),
        planted: bool = False,
    ) -> None:
        self.network = network.eval()
        self.family = network.kind
        self.name = name or network.kind
        self.path = path
        self.planted = planted
        self._stamps = tuple(stamps)
        self._sha256: str | None = None

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.network.parameters()) / 1e6
        planted = ", outliers planted" if self.planted else ""
        return f"Model({self.name!r}, {millions:.1f} M parameters, {self.dtype}, {self.device}{planted})"

    @property
    def config(self) -> dict[str, Any]:
        """Sizes in the form ``build_model`` takes."""
        return self.network.sizes.to_dict()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> str:
        """The precision of the trunk, "float32" or "bfloat16"."""
        return str(self.network.compute_dtype).removeprefix("torch.")

    @property
    def sha256(self) -> str:
        """Digest of the weights: of the file where there is one (read once, when first asked), else of the tensors."""
        if self._sha256 is None:
            self._sha256 = weights_digest(self.path) if self.path else network_digest(self.network)
        return self._sha256

    def check_files(self) -> None:
        """Make sure that the weights are still those that were loaded; call it before each forward pass.

        Raises:
            CheckpointError: A mapped weight file was overwritten in place.
        """
        for stamp in self._stamps:
            stamp.check()

    def preprocess(self, images: Sequence[Picture], *, mode: Mode | None = None) -> Tensor:
        """Pictures as the network's input, float32 [1, S, 3, H, W] in [0, 1], on the CPU.

        The released size takes pictures as published; a smaller network, which has only seen squares, takes the
        central square at its own image size.
        """
        size, patch = self.network.sizes.img_size, self.network.sizes.patch_size
        published = FAMILIES[self.family].mode if size == PUBLISHED_SIZE else "square"
        return preprocess(images, size=size, patch_size=patch, mode=mode or published)

    def predict(self, images: Sequence[Picture], *, points: Points = "depth") -> Prediction:
        """Reconstruct a scene from its pictures.

        Args:
            images: uint8 arrays [H, W, 3], paths, or PIL images, in the order of the views.
            points: "depth" unprojects the depth with the predicted cameras; "head" takes the point head's points
                (Pi3 has no others).

        Raises:
            SceneError: Pictures that cannot be used.
            DeviceError: Not enough memory.
            NumericError: The network computes a NaN or an infinity.
        """
        tensor = self.preprocess(images)
        return self.decode(self.run(tensor), tensor, points=points)

    def run(self, tensor: Tensor) -> dict[str, Tensor]:
        """The network's outputs for an input of ``preprocess``, without gradients."""
        self.check_files()
        try:
            with torch.no_grad():
                outputs: dict[str, Tensor] = self.network(tensor.to(self.device))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if _is_memory_error(error):
                raise _memory_error(error, tensor) from error
            raise
        return outputs

    def decode(
        self, outputs: Mapping[str, Tensor], tensor: Tensor, *, points: Points = "depth"
    ) -> Prediction:
        """Turn outputs of the network for ``tensor`` [1, S, 3, H, W] into a Prediction."""
        return FAMILIES[self.family].decode(outputs, tensor, self.name, points)

    def token_layout(self, tensor: Tensor) -> TokenLayout:
        """How the tokens of an input [1, S, 3, H, W] lie in each stream."""
        layout = FAMILIES[self.family].layout(self.network, tensor)
        if layout is None:
            raise CheckpointError("the network has no tokens of its family", place=self.name)
        return layout


def _is_memory_error(error: RuntimeError) -> bool:
    exhausted = re.search("out of memory|not enough memory", str(error)) is not None
    return isinstance(error, torch.OutOfMemoryError) or exhausted


def _memory_error(error: RuntimeError, tensor: Tensor) -> DeviceError:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    frames, (height, width) = tensor.shape[-4], tensor.shape[-2:]
    return DeviceError(
        f"memory ran out on {frames} images of {width} x {height} pixels: {error}",
        remedy="Use fewer images, dtype='bfloat16', or a device with more memory.",
    )
