"""What tells one calibration scene from another: a few numbers of its deepest activations. It picks nothing.

One full-precision pass a scene, up to the last block looked at; of each pass only some vectors are kept, so memory does
not grow with the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from quantlab.calibration.picked import PoolFeatures
from quantlab.calibration.running import hooked, memory_errors, watched
from quantlab.jobs import Job
from quantlab.models.structure import Structure
from quantlab.models.tokens import KINDS, PATCH, TokenLayout

TRUNK = ("frame", "global")
TINY = 1e-12
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SceneFeatures:
    """One scene's row of `PoolFeatures`; ``means`` and ``variances`` are [L]."""

    means: Floats
    variances: Floats
    frames: Floats
    specials: Floats
    special: str
    tokens: int


def deep_blocks(structure: Structure, count: int) -> tuple[str, ...]:
    """The blocks to look at: the last ``count`` of each stream of the trunk, in execution order.

    A network without frame and global blocks gives the last of all its blocks; one without blocks, its last layers.
    """
    streams: dict[str, list[str]] = {}
    for block in structure.blocks.values():
        if block.index >= 0:
            streams.setdefault(block.stream, []).append(block.name)
    trunk = [streams[stream] for stream in TRUNK if stream in streams]
    rest = [[name for name, block in structure.blocks.items() if block.index >= 0], list(structure.layers)]
    groups = trunk or [next(names for names in rest if names)]
    chosen = {name for names in groups for name in names[-count:]}
    return tuple(name for name in (*structure.blocks, *structure.layers) if name in chosen)


def scene_features(
    network: nn.Module,
    structure: Structure,
    blocks: Sequence[str],
    run: Callable[[Any], object],
    value: Any,
    layout: TokenLayout | None,
    *,
    job: Job | None = None,
    text: str = "",
) -> SceneFeatures:
    """Run one scene at full precision and describe it.

    Args:
        network: Hooked while this runs and never after.
        structure: Of the network.
        blocks: The L modules whose outputs are summarised, from `deep_blocks`.
        run: ``run(value)`` must call ``network``.
        value: The network's input.
        layout: Where the tokens of its frames lie; None: the scene is one frame without special tokens.
        job: Checked before every layer, told of every block.
        text: Begins the job's reports.

    Raises:
        DeviceError: Memory ran out.
        JobCancelledError: The job was cancelled.
    """
    sums = {name: np.zeros(3) for name in blocks}
    ends = _ends(structure, blocks)
    last: dict[str, Tensor] = {}

    def look(name: str) -> Callable[..., None]:
        def see(_module: nn.Module, _args: object, _kwargs: object, output: object) -> None:
            tokens = next((leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)), None)
            if tokens is None or not tokens.numel():
                return
            values = tokens.detach().double()
            sums[name] += [values.numel(), float(values.sum()), float(values.square().sum())]
            if name in ends:
                last[name] = tokens.detach()
            if name == blocks[-1] and _is_whole(tokens, structure, name, layout):
                raise _EnoughError

        return see

    with (
        torch.no_grad(),
        hooked(network, after=[(name, look(name)) for name in blocks]),
        watched(network, structure, job, text),
        memory_errors("looking at the pool", value),
        suppress(_EnoughError),
    ):
        run(value)
    with np.errstate(invalid="ignore", over="ignore"):  # such a scene is dropped, by name
        return _described(np.stack([sums[name] for name in blocks]), *_frames(structure, last, layout))


class _EnoughError(BaseException):
    """All that was looked for has been seen; not an Exception, so that the network does not catch it."""


def _is_whole(tokens: Tensor, structure: Structure, name: str, layout: TokenLayout | None) -> bool:
    """Whether these are the tokens of all frames, so that the block does not run again in this scene."""
    if layout is None or name not in structure.blocks:
        return False
    specials = len(layout.specials.get(structure.blocks[name].stream, ()))
    rows = tokens.numel() // tokens.shape[-1]
    return rows == layout.frames * (specials + layout.rows * layout.cols)


def _described(sums: Floats, frames: Floats, kinds: NDArray[np.uint8]) -> SceneFeatures:
    """From (count, sum, sum of squares) [L, 3] of the blocks, and the last layer's tokens and their kinds."""
    count, special = np.maximum(sums[:, 0], 1), _special(kinds)
    means = sums[:, 1] / count
    patches = kinds == PATCH
    return SceneFeatures(
        means=means,
        variances=np.maximum(sums[:, 2] / count - means**2, 0.0),
        frames=frames[:, patches if patches.any() else slice(None)].mean(axis=1),
        specials=_standardised(frames[:, kinds == special].mean(axis=1)),
        special=KINDS[special],
        tokens=frames.shape[0] * frames.shape[1],
    )


def pool_features(
    names: Sequence[str], blocks: Sequence[str], scenes: Sequence[SceneFeatures]
) -> PoolFeatures:
    """The features of a pool from those of its scenes; there is at least one."""
    return PoolFeatures(
        names=tuple(names),
        layers=tuple(blocks),
        means=np.stack([scene.means for scene in scenes]),
        variances=np.stack([scene.variances for scene in scenes]),
        frames=tuple(scene.frames for scene in scenes),
        specials=tuple(scene.specials for scene in scenes),
        special=scenes[0].special,
        tokens=np.array([scene.tokens for scene in scenes], dtype=np.int64),
    )


def _ends(structure: Structure, blocks: Sequence[str]) -> list[str]:
    """The last block of each stream: their outputs side by side are the last layer's tokens."""
    streams = {structure.blocks[name].stream if name in structure.blocks else "": name for name in blocks}
    return list(streams.values())


def _frames(
    structure: Structure, last: dict[str, Tensor], layout: TokenLayout | None
) -> tuple[Floats, NDArray[np.uint8]]:
    """Last-layer tokens frame by frame, float64 [S, T, C], and the kind of each of the T tokens, uint8 [T]."""
    parts: list[Floats] = []
    kinds = np.full(1, PATCH, dtype=np.uint8)
    for name, tokens in last.items():
        stream = structure.blocks[name].stream if name in structure.blocks else ""
        rows = tokens.reshape(-1, tokens.shape[-1]).double().cpu().numpy()
        length = (
            len(rows) // layout.frames if layout is not None and len(rows) % layout.frames == 0 else len(rows)
        )
        part = rows.reshape(-1, length, rows.shape[1])
        if parts and parts[0].shape[:2] != part.shape[:2]:
            continue  # streams of other lengths cannot stand side by side
        parts.append(part)
        kinds = structure.token_kinds(stream, length, layout)
    if not parts:  # no chosen block ran
        return np.zeros((1, 1, 1)), kinds
    return np.concatenate(parts, axis=2), kinds


def _special(kinds: NDArray[np.uint8]) -> int:
    """The kind of token that stands for a frame: the camera token, else other special ones, else the patches."""
    return int(kinds.min()) if (kinds < PATCH).any() else int(next((k for k in kinds if k != PATCH), PATCH))


def _standardised(tokens: Floats) -> Floats:
    """Each token [S, C] with mean 0 and variance 1, as a token norm without gain gives it (our reading)."""
    centred = tokens - tokens.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + TINY))
