"""A packed checkpoint as a network of packed layers that share its mapped files. It chooses no kernel."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.errors import CheckpointError
from quantlab.kernels.reference import Simulated, SimulatedLinear
from quantlab.models.checkpoint import Stamp
from quantlab.models.networks import build_model
from quantlab.models.places import Places
from quantlab.models.safetensors_file import read_header
from quantlab.packed import standins
from quantlab.packed.config import read_config
from quantlab.packed.layers import assemble, readable, rows_shape
from quantlab.packed.manifest import Manifest, check_files, read_manifest
from quantlab.packed.names import from_file
from quantlab.packed.rest import FLOATS, hang_kept, hang_rounded

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Opened:
    """A packed checkpoint that was read.

    Attributes:
        network: In evaluation mode; its layers hold mapped codes, no weight of theirs exists.
        manifest: What else is known of it.
        stamps: Of the mapped files.
    """

    network: nn.Module
    manifest: Manifest
    stamps: tuple[Stamp, ...]


def read_packed(folder: str | Path, *, network: nn.Module | None = None, verify: bool = False) -> Opened:
    """Read and check a packed checkpoint; tensors are mapped, and read from the disk when they are used.

    Args:
        folder: That was exported.
        network: For a checkpoint of a network that is none of ours: one of the same build. It is not changed, and
            its weights are not read.
        verify: Read every file and compare its digest; otherwise sizes, headers and small files are compared.

    Raises:
        CheckpointError: It is damaged, foreign, of a newer version, or of another network.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(manifest, verify=verify)
    made = _empty_copy(network) if network is not None else _built(folder)
    tensors = _tensors(manifest)
    stamps = tuple(Stamp.of(path) for path in manifest.shards)
    _Filler(made, tensors, str(folder)).fill(manifest.content)
    return Opened(made.requires_grad_(requires_grad=False).eval(), manifest, stamps)


def _built(folder: Path) -> nn.Module:
    kind, sizes = read_config(folder)
    if kind is None:
        raise CheckpointError(
            "the checkpoint is of a network that QuantLab cannot build",
            place=str(folder),
            remedy="Pass one of the same build: quantlab.packed.read.read_packed(folder, network=...).",
        )
    return build_model(kind, sizes, device="meta")


def _empty_copy(network: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    for tensor in chain(network.parameters(), network.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    for module in network.modules():
        for name in module._non_persistent_buffers_set:  # noqa: SLF001 - not in checkpoints, so they stay
            memo[id(module._buffers[name])] = module._buffers[name]  # noqa: SLF001
    return copy.deepcopy(network, memo)


def _tensors(manifest: Manifest) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in manifest.shards:
        for name, tensor in read_header(path).tensors().items():
            if name in tensors:
                raise CheckpointError(f"{name!r} is in two shards", place=str(path))
            tensors[name] = tensor
    return tensors


class _Filler:
    """Puts the tensors of a checkpoint into a network on the meta device, each once."""

    def __init__(self, network: nn.Module, tensors: dict[str, Tensor], place: str) -> None:
        self._network, self._place, self._left = network, place, tensors
        self._below: dict[str, list[str]] = {}
        self._probed: set[str] = set()

    def fill(self, content: Mapping[str, Any]) -> None:
        """Put everything in its place, and make sure that nothing is missing or left over."""
        places = Places(self._network)
        layers, parameters = content["layers"], content["parameters"]
        self._sort(layers)
        modules = {name: module for name, module, _ in standins.walk(self._network)}
        if unknown := layers.keys() - modules.keys():
            raise self._wrong(f"the network has no layer {min(unknown)!r}")
        for name, module in modules.items():
            if name in layers:
                places.put(name, self._layer(name, layers[name], module))
            else:
                self._fill(name, module, parameters)
        found = {name: self._left.pop(name) for name in list(self._left) if ".correction_" in name}
        standins.put(places, content["standins"], found)
        if self._left:
            raise self._wrong(f"{len(self._left)} tensors belong nowhere{_list(self._left)}")

    def _sort(self, layers: Mapping[str, Any]) -> None:
        """Which tensors are of which layer: the names of transforms have points in them."""
        for tensor in self._left:
            parts = tensor.split(".")
            for length in range(len(parts) - 1, 0, -1):
                if (name := ".".join(parts[:length])) in layers:
                    self._below.setdefault(name, []).append(tensor)
                    break

    def _layer(self, name: str, record: Mapping[str, Any], original: nn.Module) -> Simulated:
        with readable("the stored layer", f"{self._place}, {name}"):
            stored = {own[len(name) + 1 :]: self._left.pop(own) for own in self._below.get(name, [])}
            if not isinstance(original, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                raise TypeError(f"a {type(original).__name__} is no layer")
            rows, shape, bias = rows_shape(original), original.weight.shape, original.bias
            if (bias is None) == ("bias" in stored):
                raise KeyError("bias")
            if bias is not None:
                _require(stored["bias"], bias, "bias")
                original.bias = nn.Parameter(stored["bias"].to(bias.dtype), requires_grad=False)
            if "width" not in record:
                _require(stored["weight"], original.weight, "weight")
            layer = assemble(record, from_file(stored, record, rows, shape), original, held=True)
            check_layer(layer, self._probed)
            return layer

    def _fill(self, name: str, module: nn.Module, parameters: Mapping[str, Any]) -> None:
        passing = module._non_persistent_buffers_set  # noqa: SLF001 - torch has no other way to ask
        held = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for own, tensor in held.items():
            full = f"{name}.{own}".lstrip(".")
            if own in passing:
                continue
            if full in parameters:
                with readable("a stored parameter", f"{self._place}, {full}"):
                    packed, scale = (self._take(full + ending) for ending in ("_packed", "_scale"))
                    hang_rounded(module, own, parameters[full], packed, scale, tensor.shape)
                continue
            stored = self._take(full)
            with readable("a stored tensor", f"{self._place}, {full}"):
                _require(stored, tensor, full)
            hang_kept(module, own, stored)

    def _take(self, name: str) -> Tensor:
        if name not in self._left:
            raise self._wrong(f"the tensor {name!r} is missing")
        return self._left.pop(name)

    def _wrong(self, problem: str) -> CheckpointError:
        return CheckpointError(problem, place=self._place, remedy="Export the checkpoint again.")


def check_layer(layer: Simulated, probed: set[str]) -> None:
    """Make sure that everything in a layer fits its width: a kernel reads its tensors without looking.

    Args:
        layer: Just assembled.
        probed: Transforms that were tried before; those of this layer are added.

    Raises:
        ValueError: Something has another size.
    """
    if not isinstance(layer, SimulatedLinear):
        return
    if layer.down is not None and layer.up is not None:
        rank = layer.down.shape[-1]
        if layer.down.shape != (layer.in_features, rank) or layer.up.shape != (rank, layer.out_features):
            raise ValueError("the low-rank branch has another size")
    with torch.no_grad():
        row = torch.zeros(1, layer.in_features)
        if layer.activations is not None and layer.activations(row).shape != row.shape:
            raise ValueError("the rounding of inputs changes their width")
        shapes = {name: list(buffer.shape) for name, buffer in layer.transforms.named_buffers()}
        alike = f"{layer.in_features} {shapes} {[vars(part) for part in layer.transforms]}"
        # What an order of channels holds matters too: an index beyond the width must not reach a kernel.
        if alike in probed and not any(buffer.dtype == torch.int64 for buffer in layer.transforms.buffers()):
            return
        if layer.transform(row).shape != row.shape:
            raise ValueError("a transform has another width")
        probed.add(alike)


def _require(stored: Tensor, wanted: Tensor, name: str) -> None:
    if stored.shape != wanted.shape or not (stored.dtype in FLOATS or stored.dtype == wanted.dtype):
        raise ValueError(
            f"{name} is {list(stored.shape)} of {stored.dtype} instead of {list(wanted.shape)}".replace(
                "torch.", ""
            )
        )


def _list(names: Mapping[str, Tensor]) -> str:
    shown = sorted(names)
    return f" ({', '.join(shown[:SHOWN])}{', ...' if len(shown) > SHOWN else ''})"
