"""What the speed bench measures: sizes, and groups timed together. Data only; it loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quantlab.errors import RecipeError

FORMAT = 1
"""Raised when the same names begin to mean another measurement: records of older formats are then not reused."""
LEVELS = ("forward", "memory", "block", "linear")
"""What decides first: a run may be stopped."""
PROFILE = "profile"
CPU, GPU = "cpu", "cuda"
DEVICES: Mapping[str, tuple[str, ...]] = {CPU: (*LEVELS, PROFILE), GPU: ("forward", "memory")}
"""What is measured where."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """A network's sizes as far as the bench needs them.

    Attributes:
        width: Channels of a token.
        heads: Of an attention.
        tokens: Of a frame, at the sizes that single linears and blocks are measured at.
        together: Frames that a global block sees at once.
        picture: Height and width of the pictures of a whole forward.
        config: What `build_model("vggt", config)` takes; None is the released size.
    """

    width: int
    heads: int
    tokens: int
    together: int
    picture: tuple[int, int]
    config: Mapping[str, Any] | None = None

    def linears(self) -> dict[str, tuple[int, int]]:
        """The four linears of a block: inputs and outputs."""
        width = self.width
        return {
            "qkv": (width, 3 * width),
            "proj": (width, width),
            "fc1": (width, 4 * width),
            "fc2": (4 * width, width),
        }


MINI = {
    "aggregator": {"img_size": 96, "patch_size": 12, "embed_dim": 192, "depth": 4, "num_heads": 6},
    "vit": {"embed_dim": 192, "depth": 2, "num_heads": 6},
    "camera_head": {"trunk_depth": 1, "num_heads": 6},
    "dpt": {"features": 32, "out_channels": (32, 48, 64, 96), "intermediate_layer_idx": (0, 1, 2, 3)},
}
SHAPES: Mapping[str, Shapes] = {
    "vggt-1b": Shapes(1024, 16, 1374, 3, (392, 518)),
    "mini": Shapes(192, 6, 69, 3, (96, 96), MINI),
}


@dataclass(frozen=True, slots=True)
class Group:
    """What is timed together, in one process, by turns.

    Attributes:
        shapes: Key of `SHAPES`.
        level: One of `LEVELS`, or `PROFILE`: where the time of a whole forward goes.
        part: Which linear; else the level once more.
        size: Tokens of a linear or block; frames of a whole forward.
        threads: Of arithmetic.
        depth: Blocks that are left of each kind in a whole network; 0: all.
        device: Key of `DEVICES`.
    """

    shapes: str
    level: str
    part: str
    size: int
    threads: int
    depth: int = 0
    device: str = CPU

    @property
    def key(self) -> str:
        """Its name, and that of its file."""
        cut = f"-depth{self.depth}" if self.depth else ""
        where = f"t{self.threads}" if self.device == CPU else self.device
        return f"{self.shapes}{cut}-{self.level}-{self.part}-{self.size}-{where}"

    @property
    def whole(self) -> bool:
        """Whether a whole network is run."""
        return self.level in ("forward", PROFILE)

    @property
    def wall(self) -> bool:
        """Whether the clock on the wall counts: several threads, or a GPU, take no processor time that tells."""
        return self.threads > 1 or self.device != CPU

    def to_dict(self) -> dict[str, Any]:
        """What decides what is measured."""
        found = asdict(self)
        return found if self.device != CPU else {k: v for k, v in found.items() if k != "device"}

    def __str__(self) -> str:
        unit = "tokens" if self.level in ("linear", "block") else "frames"
        what = self.part if self.part == self.level else f"{self.level} {self.part}"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{what}, {self.size} {unit}, {threads if self.device == CPU else self.device}"


def groups(
    shapes: str,
    *,
    levels: Sequence[str],
    frames: Sequence[int],
    threads: Sequence[int],
    depth: int = 0,
    device: str = CPU,
) -> list[Group]:
    """All groups that were asked for; single linears on the fewest threads only. A GPU is fed by the most.

    Raises:
        RecipeError: There are no such shapes or levels, or not on that device.
    """
    for name, known in [(shapes, SHAPES), *((level, DEVICES[device]) for level in levels)]:
        if name not in known:
            raise RecipeError(
                f"{name[:40]!r} is not offered",
                place="bench speed" if device == CPU else f"bench speed --device {device}",
                remedy=f"Choose from: {', '.join(known)}.",
            )
    size, found = SHAPES[shapes], []
    if device != CPU:
        found = [Group(shapes, "forward", "forward", n, max(threads), depth, device) for n in frames]
        found.append(Group(shapes, "memory", "memory", 2, max(threads), depth, device))
        return [group for level in DEVICES[device] for group in found if group.level == level in levels]
    for count in threads:
        found += [Group(shapes, "block", "block", n * size.tokens, count) for n in (1, size.together)]
        found += [Group(shapes, "forward", "forward", pictures, count, depth) for pictures in frames]
    found += [Group(shapes, "linear", part, size.tokens, min(threads)) for part in size.linears()]
    found.append(Group(shapes, "memory", "memory", 2, max(threads), depth))
    found.append(Group(shapes, PROFILE, PROFILE, min(frames), 1, depth))
    return [group for level in (PROFILE, *LEVELS) for group in found if group.level == level in levels]
