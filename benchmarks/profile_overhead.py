"""Measures what a profiled forward costs over a plain one, on mini's sizes or on VGGT-1B's shapes. It asserts nothing.

python benchmarks/profile_overhead.py                      mini, 4 views of 96 x 96
python benchmarks/profile_overhead.py --shapes vggt-1b     one pair of blocks of the released size, two 518 x 392 images
python benchmarks/profile_overhead.py --shapes dpt         its depth head on the same images

Plain and profiled passes alternate, and CPU time of the process is counted beside wall time: on a busy machine the
first is the figure to trust. The released trunk is 24 such pairs and a ViT of 24 blocks of the same shapes, so one
pair stands for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from quantlab.calibration.capture import ProfileCollector
from quantlab.calibration.observe import observe
from quantlab.models.dpt import DPTHead
from quantlab.models.layers import Block
from quantlab.models.structure import describe
from quantlab.models.tokens import TokenLayout
from quantlab.models.zoo import build_model

MINI = {
    "patch_size": 12,
    "aggregator": {"img_size": 96, "embed_dim": 192, "depth": 4, "num_heads": 6, "num_register_tokens": 4},
    "vit": {"embed_dim": 192, "depth": 2, "num_heads": 6},
    "camera_head": {"trunk_depth": 1, "num_heads": 6},
    "dpt": {"features": 32, "out_channels": [32, 48, 64, 96], "intermediate_layer_idx": [0, 1, 2, 3]},
}
TRUNK = ("camera", *("register",) * 4)
SPECIALS = {"frame": TRUNK, "global": TRUNK, "vit": ("vit_cls", *("vit_register",) * 4)}
FRAMES, ROWS, COLS = 2, 28, 37


class Pair(nn.Module):
    """One frame block and one global block of VGGT-1B."""

    def __init__(self) -> None:
        super().__init__()
        self.frame_blocks = nn.ModuleList([Block(1024, 16, qk_norm=True)])
        self.global_blocks = nn.ModuleList([Block(1024, 16, qk_norm=True)])

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [frames, tokens, 1024]."""
        x = self.frame_blocks[0](x)
        out: Tensor = self.global_blocks[0](x.flatten(0, 1)[None])
        return out


class Depth(nn.Module):
    """The depth head of VGGT-1B."""

    def __init__(self) -> None:
        super().__init__()
        self.depth_head = DPTHead(2048, 14, 256, (256, 512, 1024, 1024), (0, 1, 2, 3), "exp")

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens`` [frames, tokens, 2048]."""
        images = torch.empty(1, FRAMES, 3, ROWS * 14, COLS * 14)
        out: Tensor = self.depth_head(dict.fromkeys(range(4), tokens[None]), images, 5)[0]
        return out


def subject(shapes: str) -> tuple[nn.Module, Tensor, TokenLayout]:
    """A network, its input and how its tokens lie."""
    torch.manual_seed(0)
    if shapes == "mini":
        return build_model("vggt", MINI).eval(), torch.rand(1, 4, 3, 96, 96), TokenLayout(4, 8, 8, SPECIALS)
    tokens = FRAMES, ROWS * COLS + 5
    layout = TokenLayout(FRAMES, ROWS, COLS, SPECIALS)
    if shapes == "dpt":
        return Depth().eval(), torch.randn(*tokens, 2048), layout
    return Pair().eval(), torch.randn(*tokens, 1024), layout


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", choices=("mini", "vggt-1b", "dpt"), default="mini")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--scenes", type=int, default=4, help="scenes of one pass, as in a profile")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network, value, layout = subject(options.shapes)
    structure = describe(network)
    collector = ProfileCollector(structure)
    scenes, layouts = [value] * options.scenes, [layout] * options.scenes

    def plain() -> None:
        with torch.no_grad():
            for scene in scenes:
                network(scene)

    def profiled() -> None:
        observe(network, structure, None, scenes, layouts, observers=[collector])

    plain()
    first = timed(profiled)
    pairs = [(timed(plain), timed(profiled)) for _ in range(options.repeats)]
    print(
        f"{options.shapes}, {options.threads} thread(s); seconds of the fastest of {options.repeats} alternating passes"
    )
    for index, clock in enumerate(("wall", "CPU")):
        bare = min(pair[0][index] for pair in pairs)
        watched = min(pair[1][index] for pair in pairs)
        print(
            f"  {clock:4}  plain {bare:.4f}   profiled {watched:.4f}   ratio {watched / bare:.2f}"
            f"   (first pass {first[index]:.4f})"
        )


if __name__ == "__main__":
    main()
