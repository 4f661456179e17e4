"""A network with its pictures: preprocess, run, decode. Where the weights come from is zoo.py's matter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from quantlab.errors import CheckpointError, DeviceError, NumericError, SceneError
from quantlab.geometry.cameras import unproject
from quantlab.models.checkpoint import Stamp
from quantlab.models.pose_encoding import cameras_from_code
from quantlab.models.prediction import Prediction
from quantlab.models.preprocess import Mode, Picture, preprocess
from quantlab.models.tokens import VIT_SPECIALS, TokenLayout
from quantlab.models.vggt import VGGT

Points = Literal["depth", "head"]
PUBLISHED_SIZE = 518


class Model:
    """A reconstruction network in evaluation mode, and how pictures go in and a Prediction comes out.

    Args:
        network: A VGGT; it is put into evaluation mode.
        name: What the user calls it.
        path: The weight file, for ``sha256``.
        stamps: The mapped files, checked before each prediction.
        planted: Outliers were planted artificially.

    Attributes:
        family: "vggt".
        config: The sizes as plain data.
    """

    family = "vggt"

    def __init__(
        self,
        network: VGGT,
        *,
        name: str = "vggt",
        path: Path | None = None,
        stamps: Sequence[Stamp] = (),
        planted: bool = False,
    ) -> None:
        self.network = network.eval()
        self.name = name
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
        return self.network.config.to_dict()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.aggregator.camera_token.device

    @property
    def dtype(self) -> str:
        """The precision of the trunk, "float32" or "bfloat16"."""
        return str(self.network.compute_dtype).removeprefix("torch.")

    @property
    def sha256(self) -> str:
        """Digest of the weights: of the file where there is one (read once, when first asked), else of the tensors."""
        if self._sha256 is None:
            self._sha256 = _file_digest(self.path) if self.path else _tensor_digest(self.network)
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

        The released size takes pictures as published ("crop"); a smaller network, which has only seen squares,
        takes the central square at its own image size.
        """
        size, patch = self.network.config.aggregator.img_size, self.network.config.aggregator.patch_size
        chosen: Mode = mode or ("crop" if size == PUBLISHED_SIZE else "square")
        return preprocess(images, size=size, patch_size=patch, mode=chosen)

    def predict(self, images: Sequence[Picture], *, points: Points = "depth") -> Prediction:
        """Reconstruct a scene from its pictures.

        Args:
            images: uint8 arrays [H, W, 3], paths, or PIL images, in the order of the views.
            points: "depth" unprojects the depth with the predicted cameras; "head" takes the point head's points.

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
        return prediction_from(outputs, tensor, name=self.name, points=points)

    def token_layout(self, tensor: Tensor) -> TokenLayout:
        """How the tokens of an input [1, S, 3, H, W] lie in each stream."""
        return vggt_layout(self.network.aggregator, tensor)


def prediction_from(
    outputs: Mapping[str, Tensor], tensor: Tensor, *, name: str, points: Points = "depth"
) -> Prediction:
    """Turn outputs under VGGT's published names for ``tensor`` [1, S, 3, H, W] into a Prediction.

    Raises:
        CheckpointError: An output is missing; ``name`` is what people call the network.
        NumericError: An output is not finite.
    """
    _check_outputs(outputs, name, points)
    height, width = tensor.shape[-2:]
    code = outputs["pose_enc"][0].double().cpu()
    pose, intrinsics = (matrix.numpy() for matrix in cameras_from_code(code, height, width))
    depth = _numpy(outputs["depth"])[..., 0]
    if points == "head":
        cloud, confidence = _numpy(outputs["world_points"]), _numpy(outputs["world_points_conf"])
    else:
        cloud, confidence = unproject(depth, intrinsics, pose), _numpy(outputs["depth_conf"])
    pictures = (tensor[0].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Prediction(
        images=np.ascontiguousarray(pictures),
        points=np.asarray(cloud, dtype=np.float32),
        confidence=confidence,
        depth=depth,
        camera_from_world=pose,
        intrinsics=intrinsics.astype(np.float32),
    )


def vggt_layout(aggregator: Any, tensor: Tensor) -> TokenLayout:
    """How the tokens of an input [..., S, 3, H, W] lie in the streams of a VGGT's aggregator, ours or upstream's."""
    patch, registers = aggregator.patch_size, aggregator.register_token.shape[2]
    frames, (height, width) = tensor.shape[-4], tensor.shape[-2:]
    trunk = ("camera", *("register",) * registers)
    specials = {"vit": VIT_SPECIALS, "frame": trunk, "global": trunk}
    return TokenLayout(frames, height // patch, width // patch, specials)


def _numpy(output: Tensor) -> Any:
    return output[0].float().cpu().numpy()


def _check_outputs(outputs: Mapping[str, Tensor], name: str, points: Points) -> None:
    if points not in ("depth", "head"):
        raise SceneError(f"there are no points {points!r}", remedy="Choose 'depth' or 'head'.")
    needed = ("pose_enc", "depth", *(("world_points",) if points == "head" else ()))
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


def _file_digest(path: Path) -> str:
    # The hub's cache names large files by their sha256 already.
    if re.fullmatch("[0-9a-f]{64}", path.resolve().name):
        return path.resolve().name
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def _tensor_digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
