"""A folder of finished stages: a quantization that was killed goes on behind the last of them. It quantizes nothing.

    manifest.json                 what the folder belongs to, and when it is finished what it holds
    recipe.yaml                   the recipe, for people
    stages/NAME.safetensors       one finished stage: packed codes, scales, smoothing, everything of its layers
    rest.safetensors              layers outside of all stages, and the corrections of branches

Every file is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from quantlab.engine.recipe import Recipe
from quantlab.errors import CheckpointError, StorageError
from quantlab.kernels.reference import Simulated
from quantlab.methods.compensation import Correction
from quantlab.models.safetensors_file import read_header
from quantlab.packed.layers import Record, assemble, dissect, readable
from quantlab.packed.read import check_layer
from quantlab.scenes.scene import Scene
from quantlab.storage import atomic_write, sweep_orphans, write_json

FORMAT = 1
MANIFEST = "manifest.json"
OTHER_FOLDER = "Name another folder, or remove this one."


@dataclass(frozen=True, slots=True)
class Finished:
    """One stage that is on the disk.

    Attributes:
        stage: Its name.
        names: Of its quantized layers.
        bytes: Of everything stored of them.
        seconds: Since the stage before it, what runs between them included.
        known: It was there already.
    """

    stage: str
    names: tuple[str, ...]
    bytes: int
    seconds: float
    known: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """What a folder belongs to: equal identities, equal results.

    Attributes:
        quantlab: Version.
        model: Digest of the weights.
        dtype: Of the full-precision arithmetic.
        recipe: As plain data, its seed and its choice of scenes included.
        scenes: Digest of what it is calibrated on, or picked from.
    """

    quantlab: str
    model: str
    dtype: str
    recipe: Mapping[str, Any]
    scenes: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        given = {name: getattr(self, name) for name in ("quantlab", "model", "dtype", "recipe", "scenes")}
        return dict(json.loads(json.dumps(given)))


class StageFolder:
    """Keeps stages in a folder, and finds those that a former run has finished.

    Args:
        path: Made where it is not there.
        identity: What is being quantized, how, and on what.
        recipe: Written for people.
        told: Of every stage that is finished or found.

    Raises:
        StorageError: The folder holds something else, or cannot be written.
    """

    def __init__(
        self, path: Path, identity: Identity, recipe: Recipe, told: Callable[[Finished], None] | None = None
    ) -> None:
        self.path, self._told, self._last = path, told, time.perf_counter()
        self._identity = identity.to_dict()
        self.finished: list[Finished] = []
        try:
            path.mkdir(exist_ok=True)
            found = {entry.name for entry in path.iterdir()}
            (path / "stages").mkdir(exist_ok=not found or MANIFEST in found)
        except OSError as error:
            raise StorageError(
                f"the folder cannot be used: {error.strerror or error}", place=str(path), remedy=OTHER_FOLDER
            ) from error
        if MANIFEST in found:
            _require_same(self._identity, _manifest(path), path)
            sweep_orphans(path / "stages")
        elif found:
            (path / "stages").rmdir()
            raise StorageError("the folder holds something else", place=str(path), remedy=OTHER_FOLDER)
        else:
            recipe.save(path / "recipe.yaml")
            write_json(path / MANIFEST, {"format": FORMAT, **self._identity})

    @property
    def bytes(self) -> int:
        """Of all stages so far."""
        return sum(stage.bytes for stage in self.finished)

    def load(self, stage: str, originals: Mapping[str, nn.Module]) -> dict[str, Simulated] | None:
        """The layers of a finished stage; None where it is not finished.

        Raises:
            CheckpointError: Its file is damaged.
        """
        file = self._file(stage)
        if not file.exists():
            return None
        with readable("the finished stage", str(file)):
            opened = read_header(file)
            records: Mapping[str, Record] = json.loads(opened.metadata["quantlab"])["layers"]
            if records.keys() != originals.keys():
                raise CheckpointError("the file holds other layers", place=str(file), remedy="Remove it.")
            # Copied out of the mapping: a file that is removed or replaced must not change a running network.
            tensors = {name: tensor.clone() for name, tensor in opened.tensors().items()}
            layers = {
                name: assemble(record, _below(name, tensors), originals[name])
                for name, record in records.items()
            }
            for layer in layers.values():
                check_layer(layer, set())
        self._note(stage, tensors.values(), layers, known=True)
        return layers

    def save(self, stage: str, layers: Mapping[str, Simulated]) -> None:
        """Write a finished stage."""
        tensors = _write(self._file(stage), layers, {})
        self._note(stage, tensors.values(), layers, known=False)

    def finish(self, outside: Mapping[str, Simulated], corrections: Mapping[str, Correction]) -> int:
        """Write what belongs to no stage, and that everything is there; answers the bytes of all of it."""
        tensors = _write(self.path / "rest.safetensors", outside, corrections)
        total = self.bytes + sum(tensor.nbytes for tensor in tensors.values())
        stages = {stage.stage: {"layers": len(stage.names), "bytes": stage.bytes} for stage in self.finished}
        write_json(
            self.path / MANIFEST,
            {"format": FORMAT, **self._identity, "finished": {"bytes": total, "stages": stages}},
        )
        return total

    def _file(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.safetensors"

    def _note(self, stage: str, tensors: Iterable[Tensor], layers: Iterable[str], *, known: bool) -> None:
        now = time.perf_counter()
        size = sum(tensor.nbytes for tensor in tensors)
        self.finished.append(Finished(stage, tuple(layers), size, now - self._last, known))
        self._last = now
        if self._told is not None:
            self._told(self.finished[-1])


def digest_of(scenes: Iterable[Any]) -> str:
    """Digest of scenes: of their pictures in order, or of the tensors of bare inputs."""
    digest = hashlib.sha256()
    for scene in scenes:
        for part in scene.images if isinstance(scene, Scene) else pytree.tree_leaves(scene):
            if isinstance(part, Tensor | np.ndarray):
                array = np.ascontiguousarray(part.float().cpu().numpy() if isinstance(part, Tensor) else part)
                digest.update(repr((array.shape, str(array.dtype))).encode() + array.tobytes())
            else:
                digest.update(repr(part).encode())
        digest.update(b"next")
    return digest.hexdigest()


def _write(
    file: Path, layers: Mapping[str, Simulated], corrections: Mapping[str, Correction]
) -> dict[str, Tensor]:
    records: dict[str, Record] = {}
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        records[name], own = dissect(layer)
        tensors |= {f"{name}:{key}": tensor for key, tensor in own.items()}
    for name, correction in corrections.items():
        parts = {"down": correction.down, "up": correction.up, "bias": correction.bias}
        tensors |= {f"{name}:correction.{key}": tensor.contiguous() for key, tensor in parts.items()}
    # One entry: safetensors writes several in no fixed order, and equal runs shall give equal files.
    metadata = {"quantlab": json.dumps({"layers": records, "corrections": list(corrections)})}
    atomic_write(file, safetensors.torch.save(tensors, metadata))
    return tensors


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{name}:"
    return {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(
            "the folder's manifest cannot be read", place=str(path / MANIFEST), remedy=OTHER_FOLDER
        ) from error
    return found if isinstance(found, dict) else {}


def _require_same(wanted: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    other = [name for name, value in {"format": FORMAT, **wanted}.items() if found.get(name) != value]
    if other:
        raise StorageError(
            f"the folder belongs to another quantization, of other {' and '.join(other)}",
            place=str(path),
            remedy=OTHER_FOLDER,
        )
