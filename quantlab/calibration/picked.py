"""What is known of a pool of calibration scenes, and which of them were picked: plain records, no torch, no choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PoolFeatures:
    """What one full-precision pass over N scenes says about each, in the order of the pool.

    Attributes:
        names: What people call the scenes.
        layers: The L deep blocks whose outputs were summarised.
        means: float64 [N, L], mean of all values of each block's output.
        variances: float64 [N, L], their variance.
        frames: Per scene float64 [S, C], last-layer patch tokens averaged over each of its S frames.
        specials: Per scene float64 [S, C], the last-layer special token of each frame, standardised.
        special: What ``specials`` holds: a kind of token, as "camera"; "patch" where there are no special ones.
        tokens: int64 [N], tokens of each scene in the last block.
    """

    names: tuple[str, ...]
    layers: tuple[str, ...]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    frames: tuple[NDArray[np.float64], ...]
    specials: tuple[NDArray[np.float64], ...]
    special: str
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of scenes."""
        return len(self.names)

    def only(self, kept: NDArray[np.int64]) -> PoolFeatures:
        """The scenes with these indices, in this order."""
        return PoolFeatures(
            names=tuple(self.names[index] for index in kept),
            layers=self.layers,
            means=self.means[kept],
            variances=self.variances[kept],
            frames=tuple(self.frames[index] for index in kept),
            specials=tuple(self.specials[index] for index in kept),
            special=self.special,
            tokens=self.tokens[kept],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """Which scenes of a pool a method picked, and why; N scenes in the order of the pool.

    Attributes:
        method: Its name.
        names: Of the scenes.
        picked: int64, indices of the picked scenes, ascending.
        dropped: Index of each scene that the method refused to its reason, in words.
        cluster: int64 [N], cluster of each scene from 0; -1 where it belongs to none.
        scores: float64 [N], what the method ranked the scenes by; NaN where it did not.
        score: What the score is, in words; "" where the method has none.
        positions: float64 [N, 2], what the method tells scenes apart by, on the first two principal components of
            the scenes that were not dropped.
        space: What that is, in words.
        explained: Share of the variance of those scenes that the two components show, 0 to 1.
        frames, tokens: int64 [N], of each scene.
    """

    method: str
    names: tuple[str, ...]
    picked: NDArray[np.int64]
    dropped: dict[int, str]
    cluster: NDArray[np.int64]
    scores: NDArray[np.float64]
    score: str
    positions: NDArray[np.float64]
    space: str
    explained: float
    frames: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        """The size of the pool."""
        return len(self.names)

    @property
    def picked_names(self) -> tuple[str, ...]:
        """Names of the picked scenes, in the order of the pool."""
        return tuple(self.names[index] for index in self.picked)
