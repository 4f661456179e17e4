"""What any torch module is made of, for quantization: layers, blocks, branches. It knows no network by class."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from quantlab.models.tokens import KINDS, TokenLayout

__all__ = [
    "KINDS",
    "BlockInfo",
    "BranchInfo",
    "LayerInfo",
    "Structure",
    "TokenLayout",
    "describe",
    "observed_order",
]

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
ATTENTION = ("attn", "self_attn", "attention")
FEED_FORWARD = ("mlp", "ffn", "feed_forward")
STREAMS = (
    (r"(^|\.)(patch_embed|vit|encoder)(\.|$)", "vit"),
    (r"(^|\.)frame_blocks\.", "frame"),
    (r"(^|\.)global_blocks\.", "global"),
    # Pi3's blocks alternate in one list: even ones see one view, odd ones all.
    (r"^decoder\.\d*[02468](\.|$)", "frame"),
    (r"^decoder\.\d*[13579](\.|$)", "global"),
    (r"(^|\.)((?:point|conf|camera|metric)_decoder)(\.|$)", r"\2"),
    (r"(^|\.)((?:camera|depth|point|track|conf|metric)_head)(\.|$)", r"\2"),
)
QKV = (
    "qkv",
    "q",
    "k",
    "v",
    "q_proj",
    "k_proj",
    "v_proj",
    "to_q",
    "to_k",
    "to_v",
    "to_qkv",
    "query",
    "key",
    "value",
)
PROJ = ("proj", "out_proj", "o_proj", "to_out")


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One quantizable layer, named by its state-dict prefix.

    Attributes:
        kind: "qkv", "proj", "fc1", "fc2", "conv" or "other".
        stream: "vit", "frame", "global", the name of a head or of a head's decoder, as "camera_head", or "".
        block: The block it sits in, or "".
        index: The block's index in its list, or -1.
        in_features: Width of the matrix product: for a convolution channels times kernel.
        parameters: Weight and bias.
        operator: "linear", "conv2d" or "conv_transpose2d".
    """

    name: str
    kind: str
    stream: str
    block: str
    index: int
    in_features: int
    out_features: int
    parameters: int
    operator: str


@dataclass(frozen=True, slots=True)
class BranchInfo:
    """The attention or feed-forward path of a block: norm, layers, and the gain ``gamma`` ("" where there is none)."""

    name: str
    block: str
    kind: str
    norm: str
    gamma: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """A stretch of the network that is re-run as a whole; a head without blocks of its own is one, with index -1."""

    name: str
    stream: str
    index: int
    layers: tuple[str, ...]
    branches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """Layers, branches and blocks by name, each in execution order as far as it is known."""

    layers: Mapping[str, LayerInfo]
    branches: Mapping[str, BranchInfo]
    blocks: Mapping[str, BlockInfo]

    def token_kinds(self, stream: str, tokens: int, layout: TokenLayout | None) -> NDArray[np.uint8]:
        """Kind codes uint8 [tokens] of one sequence of a stream; without a layout all are patches."""
        return (layout or TokenLayout(1, 0, 0)).kinds(stream, tokens)


def describe(network: nn.Module, *, order: Sequence[str] = ()) -> Structure:
    """Find layers, blocks and branches of any torch module by its tree.

    A block is an entry of a list that holds a normalisation or a child named like attention or MLP, and at least one
    layer. A module (such as a head) with layers outside all blocks is one block, if its name ends in "head" or it
    holds no blocks; of a list, which is never called itself, each entry is. Other layers outside have the block "".

    Args:
        network: Any module; it is not changed and not run.
        order: Module names in the order they run, as from ``observed_order``. Without it: the network's own
            ``execution_order()`` where it has one, else the order of definition.
    """
    blocks = _blocks(network)
    layers = {name: _layer_info(name, layer, blocks) for name, layer in _layers(network)}
    branches = {info.name: info for block in blocks for info in _branches(network, block)}
    place = _ranking(network, order)
    infos = [
        BlockInfo(
            name=block,
            stream=stream_of(block),
            index=index,
            layers=tuple(sorted((n for n, info in layers.items() if info.block == block), key=place)),
            branches=tuple(n for n, info in branches.items() if info.block == block),
        )
        for block, index in blocks.items()
    ]
    return Structure(
        layers={name: layers[name] for name in sorted(layers, key=place)},
        branches={name: branches[name] for name in sorted(branches, key=place)},
        blocks={
            info.name: info
            for info in sorted(infos, key=lambda info: place((info.layers or (info.name,))[0]))
        },
    )


def observed_order(network: nn.Module, run: Callable[[], object]) -> list[str]:
    """The layers' names in the order in which ``run`` first calls them; ``run`` must call ``network``."""
    seen: dict[str, None] = {}

    def hook(name: str) -> Callable[[nn.Module, object], None]:
        return lambda _module, _inputs: seen.setdefault(name)

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in _layers(network)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return list(seen)


def stream_of(name: str) -> str:
    """The stream a layer or block belongs to, by its name; "" for a network of another build."""
    for pattern, stream in STREAMS:
        if match := re.search(pattern, name):
            return match.expand(stream)
    return ""


def _layers(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    for name, module in network.named_modules():
        parent = network.get_submodule(name.rpartition(".")[0]) if name else None
        # torch's own attention reads its projection's weight without calling it: nothing could be hooked there.
        if isinstance(module, LAYERS) and not isinstance(parent, nn.MultiheadAttention):
            yield name, module


def _blocks(network: nn.Module) -> dict[str, int]:
    """Block names with their index in their list; heads and other parts get -1."""
    blocks = {name: _index(name) for name in _listed(network, "")}
    for name, child in _parts(network, ""):
        own = [layer for layer, _ in _layers(child) if not _inside(f"{name}.{layer}", blocks)]
        holds_blocks = any(block.startswith(f"{name}.") for block in blocks)
        if own and not isinstance(child, LAYERS) and (name.endswith("head") or not holds_blocks):
            blocks[name] = _index(name)
    return blocks


def _index(name: str) -> int:
    last = name.rpartition(".")[2]
    return int(last) if last.isdecimal() else -1


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The children; of a list or dict of modules its entries, because nothing ever calls it as a whole."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _parts(child, f"{path}.")
        else:
            yield path, child


def _listed(module: nn.Module, prefix: str) -> list[str]:
    """The innermost entries of lists that look like blocks."""
    found: list[str] = []
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        inner = _listed(child, f"{path}.")
        if inner:
            found += inner
        elif isinstance(module, nn.ModuleList | nn.Sequential) and name.isdecimal() and _is_block(child):
            found.append(path)
    return found


def _is_block(module: nn.Module) -> bool:
    marked = any(
        "Norm" in type(child).__name__ or name in ATTENTION + FEED_FORWARD
        for name, child in module.named_children()
    )
    return marked and not isinstance(module, nn.Sequential) and next(_layers(module), None) is not None


def _inside(layer: str, blocks: Mapping[str, int]) -> str:
    """The innermost block that holds a layer, or ""."""
    holders = [block for block in blocks if layer.startswith(f"{block}.")]
    return max(holders, key=len, default="")


def _layer_info(name: str, layer: Layer, blocks: Mapping[str, int]) -> LayerInfo:
    block = _inside(name, blocks)
    if isinstance(layer, nn.Linear):
        operator, widths = "linear", (layer.in_features, layer.out_features)
    elif isinstance(layer, nn.Conv2d):
        kernel = layer.kernel_size[0] * layer.kernel_size[1]
        operator, widths = "conv2d", (layer.in_channels // layer.groups * kernel, layer.out_channels)
    else:
        operator, widths = "conv_transpose2d", (layer.in_channels // layer.groups, layer.out_channels)
    return LayerInfo(
        name=name,
        kind=_kind(name, operator),
        stream=stream_of(name),
        block=block,
        index=blocks.get(block, -1),
        in_features=widths[0],
        out_features=widths[1],
        parameters=sum(parameter.numel() for parameter in layer.parameters()),
        operator=operator,
    )


def _kind(name: str, operator: str) -> str:
    *parents, last = name.split(".")
    if operator != "linear":
        return "conv"
    if last in QKV:
        return "qkv"
    if last in PROJ:
        return "proj"
    if last in ("fc1", "linear1") or (last == "0" and parents and parents[-1] in FEED_FORWARD):
        return "fc1"
    return "fc2" if last in ("fc2", "linear2") or (parents and parents[-1] in FEED_FORWARD) else "other"


def _branches(network: nn.Module, block: str) -> Iterator[BranchInfo]:
    """Branches of a block: attention or MLP children, with the norm before and the gain after them."""
    children = list(network.get_submodule(block).named_children())
    for position, (name, child) in enumerate(children):
        layers = tuple(f"{block}.{name}.{layer}" for layer, _ in _layers(child))
        if name not in ATTENTION + FEED_FORWARD or not layers:
            continue
        norms = [n for n, m in children[:position] if "Norm" in type(m).__name__]
        after = children[position + 1] if position + 1 < len(children) else ("", None)
        yield BranchInfo(
            name=f"{block}.{name}",
            block=block,
            kind="attn" if name in ATTENTION else "mlp",
            norm=f"{block}.{norms[-1]}" if norms else "",
            gamma=f"{block}.{after[0]}" if hasattr(after[1], "gamma") else "",
            layers=layers,
        )


def _ranking(network: nn.Module, order: Sequence[str]) -> Callable[[str], tuple[int, int]]:
    """A sort key: the longest prefix of a name in the known order, then the order of definition."""
    own = getattr(network, "execution_order", None)
    known = {name: rank for rank, name in enumerate(order or (own() if callable(own) else ()))}
    defined = {name: rank for rank, (name, _) in enumerate(network.named_modules())}

    def key(name: str) -> tuple[int, int]:
        parts = name.split(".")
        prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        rank = next(
            (known[prefix] for prefix in prefixes if prefix in known), -1 if not known else len(known)
        )
        return rank, defined.get(name, len(defined))

    return key
