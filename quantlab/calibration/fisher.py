"""How much a network's result depends on each channel of its blocks' outputs. It trains and rounds nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.gradients import Losses, Run, gradients, task_of
from quantlab.jobs import Job
from quantlab.models.structure import Structure
from quantlab.models.tokens import KINDS, TokenLayout

KindsOf = Callable[[str, int, int], NDArray[np.uint8]]
"""``kinds(block, scene, tokens)``: kind codes of the tokens of one sequence in the output of a block."""

FLOOR = 0.01
"""Least weight of a channel, as a share of the block's mean: no channel may go wholly astray."""


def importance(
    network: nn.Module,
    run: Run,
    inputs: Sequence[Any],
    blocks: Sequence[str],
    *,
    seed: int,
    kinds: KindsOf | None = None,
    job: Job | None = None,
) -> dict[str, Tensor]:
    """FGQ's weights of the squared error of each block's output channels, for each kind of token.

    For block l, channel c and task k, F_k[l, c] is the mean square over tokens and scenes of the gradient of task k;
    each task is divided by its mean over all blocks and channels, so that none drowns the others, tasks are added,
    each block is divided by its mean, and what lies below 0.01 is lifted to it.

    The paper averages over all tokens. A camera token's gradient of the camera is a thousand times that of a patch,
    and there are sixty patches to each: the average over both fits neither. So the mean is taken of each kind of
    token by itself. Our reading; without ``kinds`` it is the paper's.

    Args:
        network: In full precision; it is not changed.
        run: Runs a network on an input and gives outputs by name.
        inputs: One a scene.
        blocks: Names of modules whose output is a tensor (or a tuple beginning with one).
        seed: Of the directions in which gradients are taken.
        kinds: What each token of a block's output is; None takes all as one kind.
        job: Checked before every block.

    Returns:
        float32 ``[kinds, channels]`` (without ``kinds`` ``[1, channels]``) with mean about 1 over the tokens, of the
        blocks on which some task depends. A kind that never occurs has weights 1.

    Raises:
        DeviceError: The backward pass does not fit into memory.
        RecipeError: No task depends on any of the blocks.

    Source:
        FGQ (arXiv:2605.15828). Which loss is differentiated where there are no labels is our reading: `projections`.
    """
    sums: dict[tuple[str, str], Tensor] = {}
    counts: dict[tuple[str, str], Tensor] = {}
    rows = 1 if kinds is None else len(KINDS)

    def see(task: str, name: str, _output: Tensor, gradient: Tensor, scene: int) -> None:
        squares = gradient.detach().double().square().flatten(0, -2)
        tokens = gradient.shape[-2] if gradient.dim() > 1 else 1
        codes = np.zeros(tokens, dtype=np.int64) if kinds is None else kinds(name, scene, tokens)
        index = torch.from_numpy(np.resize(codes, len(squares)).astype(np.int64)).to(squares.device)
        total = sums.setdefault((task, name), squares.new_zeros(rows, squares.shape[1]))
        total.index_add_(0, index, squares)
        count = counts.setdefault((task, name), squares.new_zeros(rows))
        count += torch.bincount(index, minlength=rows)

    gradients(network, run, inputs, blocks, projections(seed), see, job=job)
    return combine(sums, counts)


def combine(
    sums: Mapping[tuple[str, str], Tensor], counts: Mapping[tuple[str, str], Tensor]
) -> dict[str, Tensor]:
    """Weights ``[kinds, channels]`` of every block, from squared gradients added up by (task, block).

    Args:
        sums: Of squared gradients, ``[kinds, channels]``.
        counts: How many tokens each sum is of, ``[kinds]``.
    """
    total: dict[str, Tensor] = {}
    for task in dict.fromkeys(task for task, _ in sums):
        keys = [key for key in sums if key[0] == task]
        mean = torch.stack([sums[key].sum() / counts[key].sum() / sums[key].shape[1] for key in keys]).mean()
        for key in keys if mean > 0 else ():
            share = sums[key] / counts[key].clamp(min=1)[:, None] / mean
            total[key[1]] = total[key[1]] + share if key[1] in total else share
    tokens = {block: counts[key] for key in counts for block in key[1:]}
    found: dict[str, Tensor] = {}
    for block, weights in total.items():
        seen = tokens[block]
        mean = (weights.mean(dim=1) * seen).sum() / seen.sum()
        if mean > 0:
            shares = (weights / mean).clamp(min=FLOOR)
            found[block] = torch.where(seen[:, None] > 0, shares, 1.0).float()
    return found


def kinds_of(structure: Structure, layouts: Sequence[TokenLayout | None]) -> KindsOf:
    """What each token of a block's output is, by the layout of its scene; all patches where there is none."""

    def kinds(block: str, scene: int, tokens: int) -> NDArray[np.uint8]:
        layout = layouts[scene] if scene < len(layouts) else None
        return structure.token_kinds(structure.blocks[block].stream, tokens, layout)

    return kinds


def projections(seed: int) -> Losses:
    """Tasks' losses without labels: each output, relative to its size, along a random direction.

    With directions drawn from a normal distribution the mean squared gradient is the diagonal of JᵀJ: the Fisher
    information of a model with normal errors, and what turns a small error of a block's output into the squared error
    of the result. Each output of the task counts by its mean square; confidences do not count. Our reading.

    Args:
        seed: Of the directions; together with the number of the scene.
    """

    def losses(outputs: Mapping[str, Tensor], scene: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed + scene)
        found: dict[str, Tensor] = {}
        for name, output in outputs.items():
            task = task_of(name) if len(outputs) > 1 else "output"
            if not task or not output.is_floating_point():
                continue
            direction = torch.randn(output.shape, generator=generator).to(output.device)
            size = output.detach().float().norm().clamp(min=1e-12)
            loss = (output.float() * direction).sum() / size
            found[task] = found[task] + loss if task in found else loss
        return found

    return losses
