"""A quantized network written as a packed checkpoint, tensor by tensor, whole or not at all. It quantizes no layer."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantlab import __version__
from quantlab.jobs import Job, check, step
from quantlab.kernels.reference import Simulated
from quantlab.models.checkpoint import CONFIG, INDEX
from quantlab.models.structure import LAYERS
from quantlab.packed import standins
from quantlab.packed.config import config_of
from quantlab.packed.folder import new_folder
from quantlab.packed.layers import dissect
from quantlab.packed.manifest import FORMAT, MANIFEST, is_alone
from quantlab.packed.names import to_file
from quantlab.packed.rest import check_rest, is_matrix, narrow, round_parameter, rounding_of
from quantlab.packed.shards import SHARD_BYTES, Shards, file_written
from quantlab.storage import atomic_write, write_json

Measure = Callable[[Path], Mapping[str, Any]]
"""Takes the finished folder before it takes its place, and answers its drift from the simulation."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is written besides the network.

    Attributes:
        kind: Of the network, as `build_model` takes it; None for a network that is none of ours.
        sizes: Likewise.
        about: Entries of the manifest: model, recipe, seed, scenes.
        documents: Further files of text, by name.
        bits: To round large parameters outside of all layers to; None keeps them.
    """

    kind: str | None
    sizes: Mapping[str, Any]
    about: Mapping[str, Any]
    documents: Mapping[str, str] = field(default_factory=dict)
    bits: int | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """What was written.

    Attributes:
        folder: Where.
        bytes: Of all files.
        layers: Quantized ones.
        kept: Layers in full precision, whose weights are stored as they are or in 16 bits.
        parameters: Rounded ones outside of all layers.
        drift: What `Measure` answered.
    """

    folder: Path
    bytes: int
    layers: int
    kept: int
    parameters: int
    drift: Mapping[str, Any] | None


def write_packed(
    network: nn.Module,
    folder: Path,
    source: Source,
    *,
    rest: str = "bfloat16",
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    measure: Measure | None = None,
    job: Job | None = None,
) -> Packed:
    """Write a network of simulated layers, which is not changed.

    Args:
        network: As `quantlab.engine` quantizes it: simulated layers, compensated branches, rounded keys and values.
        folder: Where it goes: a new or empty folder, or with ``overwrite`` a packed checkpoint that is replaced.
        source: What else is known of it.
        rest: How matrices are stored that nothing rounds: "bfloat16", or exactly ("float32").
        shard_bytes: Most bytes of one file.
        overwrite: Whether a packed checkpoint that stands there may go.
        measure: Looks at the finished folder before it takes its place.
        job: Checked before every module.

    Raises:
        StorageError: The folder cannot be written, or something else stands there; what stood there is untouched.
        RecipeError: ``rest`` is unknown.
        CheckpointError: A part of the network cannot be stored.
        JobCancelledError: The job was cancelled; nothing is left behind.
    """
    check_rest(rest)
    with new_folder(Path(folder), replacing(overwrite=overwrite)) as part:
        writer = _Writer(rest, source.bits)
        with Shards(part, shard_bytes) as shards:
            for name, tensor in writer.tensors(network, job):
                shards.add(name, tensor)
            files = shards.finish()
        write_json(part / CONFIG, config_of(source.kind, source.sizes, writer.layers))
        for name, text in source.documents.items():
            atomic_write(part / name, text)
        small = [name for name in (CONFIG, INDEX, *source.documents) if (part / name).exists()]
        files |= {name: file_written(part / name) for name in small}
        content = {
            "format": FORMAT,
            "quantlab": __version__,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **source.about,
            "rest": rest,
            "layers": writer.layers,
            "parameters": writer.parameters,
            "standins": writer.standins,
            "drift": None,
            "files": {name: file.to_dict() for name, file in files.items()},
        }
        write_json(part / MANIFEST, content)
        check(job)
        if measure is not None:
            content["drift"] = dict(measure(part))
            write_json(part / MANIFEST, content)
        check(job)
        total = sum(path.stat().st_size for path in part.iterdir())
    counts = len(writer.layers), writer.kept, len(writer.parameters)
    return Packed(Path(folder), total, *counts, content["drift"])


def replacing(*, overwrite: bool) -> Callable[[Path], bool]:
    """Which folders give way to a checkpoint: those of a packed one alone, where that was asked for."""
    return lambda there: overwrite and is_alone(there)


class _Writer:
    """Goes through a network once and notes what it met."""

    def __init__(self, rest: str, bits: int | None) -> None:
        self._rest, self._bits = rest, bits
        self.layers: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.standins: list[Any] = []
        self.kept = 0

    def tensors(self, network: nn.Module, job: Job | None) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the file under its name there."""
        modules = list(standins.walk(network))
        for index, (name, module, _) in enumerate(modules):
            step(job, index, len(modules), name)
            found = (
                self._layer(name, module) if isinstance(module, Simulated) else self._rest_of(name, module)
            )
            for own, tensor in found:
                yield f"{name}.{own}".lstrip("."), tensor
        self.standins, tensors = standins.describe(network)
        yield from tensors.items()

    def _layer(self, name: str, layer: Simulated) -> Iterator[tuple[str, Tensor]]:
        record, tensors = dissect(layer)
        self.layers[name] = record
        for own, tensor in to_file(record, tensors, layer.weight_shape).items():
            kept = own == "weight" and record["spec"] is None
            yield own, narrow(tensor, self._rest) if kept else tensor

    def _rest_of(self, name: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        passing = module._non_persistent_buffers_set  # noqa: SLF001 - torch has no other way to ask
        held = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for own, tensor in held.items():
            if own in passing:
                continue
            full = f"{name}.{own}".lstrip(".")
            matrix = is_matrix(module, own, tensor)
            self.kept += own == "weight" and isinstance(module, LAYERS)
            spec = rounding_of(full, module, tensor, self._bits)
            if spec is None:
                yield own, narrow(tensor, self._rest) if matrix else tensor
                continue
            self.parameters[full], tensors = round_parameter(tensor, spec, full)
            for ending, part in tensors.items():
                yield own + ending, part
