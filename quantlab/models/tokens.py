"""Which token is what: kinds of tokens in the streams of a network. Plain data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

KINDS = ("camera", "register", "patch", "vit_cls", "vit_register")
PATCH = KINDS.index("patch")
VIT_SPECIALS = ("vit_cls", *("vit_register",) * 4)


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Tokens of one input: ``frames`` frames of ``rows`` x ``cols`` patches, after each stream's special tokens.

    Attributes:
        specials: Per stream the kinds of the tokens in front of each frame's patches.
        uniform: Streams whose tokens are all of one kind, such as a head that reads camera tokens only.
    """

    frames: int
    rows: int
    cols: int
    specials: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    uniform: Mapping[str, str] = field(default_factory=dict)

    def kinds(self, stream: str, tokens: int) -> NDArray[np.uint8]:
        """Kind codes (indices into KINDS) of ``tokens`` tokens of one sequence of a stream: uint8 [tokens].

        A sequence may hold one frame or several in a row; one whose length fits neither is all patches.
        """
        if stream in self.uniform:
            return np.full(tokens, KINDS.index(self.uniform[stream]), dtype=np.uint8)
        specials = [KINDS.index(kind) for kind in self.specials.get(stream, ())]
        frame = np.full(len(specials) + self.rows * self.cols, PATCH, dtype=np.uint8)
        frame[: len(specials)] = specials
        if not len(frame) or tokens % len(frame):
            return np.full(tokens, PATCH, dtype=np.uint8)
        return np.tile(frame, tokens // len(frame))
