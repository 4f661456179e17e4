"""What carrying out a recipe would take, from the time that blocks took before. It runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantlab.engine.execution import Run
from quantlab.engine.plan import Plan
from quantlab.models.structure import BlockInfo, Structure

PASSES = 3
"""A diagnosis runs a block in full precision, then its layers and its branches alone."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What carrying out the recipe in force would take.

    Attributes:
        seconds: Time of one scene; a forward was measured, or this is 0 and ``measured`` is False.
        blocks: How many blocks would run again.
        measured: Whether a forward pass of this lab was timed yet.
        diagnosis: Seconds that a diagnosis of what changed would take on such a scene.
    """

    seconds: float
    blocks: int
    measured: bool
    diagnosis: float = 0.0


def cost(structure: Structure, asked: Plan, done: Plan | None, run: Run | None) -> Cost:
    """What it takes to get from one plan to another.

    Args:
        structure: Of the network.
        asked: What shall hold.
        done: What was run last; None: full precision.
        run: A full-precision run of the scene, or None where there was none.
    """
    order = list(structure.blocks)
    changed = [name for name, block in structure.blocks.items() if _differs(block, asked, done)]
    rest = order[order.index(changed[0]) :] if changed else []
    if run is None:
        return Cost(0.0, len(rest), measured=False)
    durations = run.durations()
    diagnosis = PASSES * sum(durations.get(name, 0.0) for name in changed)
    return Cost(_from(rest, run), len(rest), measured=True, diagnosis=diagnosis)


def _from(rest: Sequence[str], run: Run) -> float:
    """Seconds from the first of these blocks that ran to the end."""
    first = next((name for name in rest if name in run.begun), None)
    return 0.0 if first is None else run.seconds - run.begun[first]


def _differs(block: BlockInfo, asked: Plan, done: Plan | None) -> bool:
    if done is None:
        quantized = any(asked.layers[name].quantized for name in block.layers)
        return quantized or any(asked.branches[name].compensated != "off" for name in block.branches)
    same = all(asked.layers[name] == done.layers[name] for name in block.layers)
    return not same or any(asked.branches[name] != done.branches[name] for name in block.branches)
