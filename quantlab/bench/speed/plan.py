"""What the speed bench measures: sizes, groups timed together, and contenders. Data only; it loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from quantlab.errors import RecipeError

FORMAT = 1
"""Raised when the same names begin to mean another measurement: records of older formats are then not reused."""
LEVELS = ("forward", "memory", "block", "linear")
"""What decides first: a run may be stopped."""
PROFILE = "profile"


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
    """

    shapes: str
    level: str
    part: str
    size: int
    threads: int
    depth: int = 0

    @property
    def key(self) -> str:
        """Its name, and that of its file."""
        cut = f"-depth{self.depth}" if self.depth else ""
        return f"{self.shapes}{cut}-{self.level}-{self.part}-{self.size}-t{self.threads}"

    @property
    def whole(self) -> bool:
        """Whether a whole network is run."""
        return self.level in ("forward", PROFILE)

    def __str__(self) -> str:
        unit = "tokens" if self.level in ("linear", "block") else "frames"
        what = self.part if self.part == self.level else f"{self.level} {self.part}"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{what}, {self.size} {unit}, {threads}"


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to compute the same thing.

    Attributes:
        name: In tables and on the command line.
        maker: "stock", "best", "quantized", or a key of `quantlab.bench.speed.peers.PEERS`.
        levels: Where it takes part.
        settings: Of a quantized one: those of a recipe's layers.
        kernel: Likewise; one of `quantlab.kernels.table.KERNELS`, or "auto".
        attention: "auto", or one of `quantlab.kernels.attention.ATTENTIONS`.
        compute: "float32" or "bfloat16": the arithmetic between the layers.
        largest: Tokens of a linear or block, or frames, up to which it takes part; 0: any. The whole table is to take
            half an hour.
        help: What a reader must know.
    """

    name: str
    maker: str
    levels: tuple[str, ...]
    help: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    kernel: str = "auto"
    attention: str = "auto"
    compute: str = "float32"
    largest: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What decides what is measured."""
        return asdict(self)


EVERY = ("linear", "block", "forward")
SMALL = ("linear", "block")
ABOVE = ("block", "forward")
MEMORY = ("memory",)
STREAM = " (bfloat16)"
"""Ends the names of variants that compute in bfloat16 between the layers as well."""
STOCK, HALF, BEST = "float32", "bfloat16", "bfloat16 best"
W8A8: Mapping[str, Any] = {"weights": 8, "activations": 8}
W4A8: Mapping[str, Any] = {"weights": 4, "activations": 8}
G128: Mapping[str, Any] = {**W4A8, "weight_granularity": "group", "group_size": 0}
STATIC: Mapping[str, Any] = {**W8A8, "activation_mode": "static", "activation_granularity": "tensor"}
MIXED: Mapping[str, Any] = {**W8A8, "rotation": "hadamard", "smoothing": 0.5}
ROTATED = "rotated and smoothed"


def _ours(
    name: str, settings: Mapping[str, Any], levels: tuple[str, ...], **more: Any
) -> Iterable[Contender]:
    """With a float32 residual stream, and with one in bfloat16, which alone runs whole networks (but for one)."""
    help_ = more.pop("help", "")
    small = levels if name == "W8A8" else tuple(level for level in levels if level in SMALL)
    yield Contender(name, "quantized", small, help_, settings, **more)
    yield Contender(f"{name}{STREAM}", "quantized", levels, "", settings, compute=HALF, **more)


CONTENDERS: tuple[Contender, ...] = (
    Contender(STOCK, "stock", (*EVERY, *MEMORY), "torch as it is"),
    Contender(
        HALF, "stock", EVERY, "the published mixed precision, matrices stored in bfloat16", compute=HALF
    ),
    Contender(BEST, "best", ABOVE, "bfloat16 throughout, with the fastest attention", compute=HALF),
    *_ours("W8A8", W8A8, EVERY, help="the kernel that is fastest here"),
    *_ours("W4A8 g128", G128, EVERY, help="likewise, a weight scale for every 128 columns"),
    *_ours("W4A8", W4A8, SMALL, help="likewise, a weight scale for every output channel"),
    *_ours("W8A8 static", STATIC, SMALL, help="activation scales fixed by calibration, one a tensor"),
    Contender(
        f"W8A8 {ROTATED}{STREAM}",
        "quantized",
        EVERY,
        "a random Hadamard rotation and smoothing before every product",
        MIXED,
        compute=HALF,
    ),
    *_ours("W8A8 native", W8A8, SMALL, kernel="native"),
    *_ours(
        "W8A8 torch only",
        W8A8,
        EVERY,
        kernel="onednn",
        attention="torch",
        help="nothing but torch: its oneDNN products, its attention",
    ),
    *_ours("W8A8 zentorch", W8A8, SMALL, kernel="zentorch", attention="zentorch"),
    Contender("torchao W8A8", "torchao", SMALL, "dynamic, per token and channel, eager", largest=1374),
    Contender(
        "torchao W8A8 compiled", "torchao_compiled", ("block",), "by torch.compile, frozen", largest=1374
    ),
    Contender(
        f"torchao W8A8 compiled{STREAM}", "torchao_compiled", ("block",), "", compute=HALF, largest=1374
    ),
    Contender("onnxruntime W8A8", "onnxruntime", SMALL, "dynamic, QInt8"),
    Contender("OpenVINO W8A8 static", "openvino_static", SMALL, "by nncf"),
    Contender("OpenVINO int8", "openvino_int8", SMALL, "int8 weights; activations as it chooses"),
    Contender("OpenVINO int4 g128", "openvino_int4", SMALL, "int4 weights; activations as it chooses"),
    Contender("packed W4A8 g128", "packed", MEMORY, "as `Lab.export` writes it", G128, compute=HALF),
    Contender(
        "packed W4A8",
        "packed",
        MEMORY,
        "likewise, a weight scale for every output channel",
        W4A8,
        compute=HALF,
    ),
)
PEERS = ("torchao", "onnxruntime", "openvino", "zentorch")


def contenders(
    group: Group, *, rows: Sequence[str] = (), peers: Sequence[str] | None = None
) -> list[Contender]:
    """Those that take part in a group, in the order of the table; the stock ones in any case.

    Args:
        group: What is measured.
        rows: Only those whose name begins with one of these; all without any.
        peers: Only these of `PEERS`; None: all.
    """
    found, level = [], "forward" if group.whole else group.level
    for contender in CONTENDERS:
        own = peer_of(contender)
        asked = contender.maker in ("stock", "best") or not rows or contender.name.startswith(tuple(rows))
        fits = level in contender.levels and group.size <= (contender.largest or group.size)
        if fits and asked and (peers is None or not own or own in peers):
            found.append(contender)
    return found


def peer_of(contender: Contender) -> str:
    """Which of `PEERS` it needs; empty for none."""
    wanted = (contender.maker, contender.kernel)
    return next((peer for peer in PEERS if any(name.startswith(peer) for name in wanted)), "")


def groups(
    shapes: str, *, levels: Sequence[str], frames: Sequence[int], threads: Sequence[int], depth: int = 0
) -> list[Group]:
    """All groups that were asked for; single linears on the fewest threads only.

    Raises:
        RecipeError: There are no such shapes or levels.
    """
    for name, known in [(shapes, SHAPES), *((level, (*LEVELS, PROFILE)) for level in levels)]:
        if name not in known:
            raise RecipeError(
                f"{name[:40]!r} is not offered",
                place="bench speed",
                remedy=f"Choose from: {', '.join(known)}.",
            )
    size, found = SHAPES[shapes], []
    for count in threads:
        found += [Group(shapes, "block", "block", n * size.tokens, count) for n in (1, size.together)]
        found += [Group(shapes, "forward", "forward", pictures, count, depth) for pictures in frames]
    found += [Group(shapes, "linear", part, size.tokens, min(threads)) for part in size.linears()]
    found.append(Group(shapes, "memory", "memory", 2, max(threads), depth))
    found.append(Group(shapes, PROFILE, PROFILE, min(frames), 1, depth))
    return [group for level in (PROFILE, *LEVELS) for group in found if group.level == level in levels]
