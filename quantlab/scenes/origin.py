"""Where a scene came from, so that it can be had again: drawn from numbers, or read from files. It reads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Drawn:
    """A room of the generator: what `quantlab.scenes.synthetic.room` was asked for.

    Attributes:
        index: Which room of the split.
        views: How many pictures.
        seed: Of the rooms.
        height, width: Of a picture, in pixels.
        split: "held-out", "calibration" or "training".
        degenerate: Its chance to be made defective on purpose, 0 to 1.
    """

    index: int
    views: int
    seed: int
    height: int
    width: int
    split: str
    degenerate: float = 0.0


@dataclass(frozen=True, slots=True)
class Files:
    """Picture files in the order of the views, or one film.

    Attributes:
        paths: Absolute.
        frames: Pictures taken from a film; None for picture files.
    """

    paths: tuple[Path, ...]
    frames: int | None = None


Origin = Drawn | Files
