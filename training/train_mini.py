"""Train the built-in model `mini`: VGGT's classes at a small size, on rooms of quantlab.scenes.synthetic.

The curriculum: first every pose is told in the frame of one fixed reference camera (a network can learn
that from each picture alone), then in the frame of the first camera, which is VGGT's task and needs the
other pictures. From scratch the second task stays at chance for longer than a laptop has patience.

    python training/train_mini.py --out FOLDER
    python -m torch.distributed.run --nproc-per-node 2 training/train_mini.py --out FOLDER     (two cores)

Stops and resumes: everything lives in FOLDER/state.pt; a run with other arguments goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from pool import SIZE, Pool, reference_camera, targets
from torch import Tensor, nn

from quantlab.geometry.scores import auc, camera_errors, depth_scores
from quantlab.models import layers
from quantlab.models.pose_encoding import cameras_from_code
from quantlab.models.zoo import build_model
from quantlab.scenes.synthetic import plan_room, render

CONFIG = {
    "patch_size": 12,
    "aggregator": {"img_size": SIZE, "embed_dim": 192, "depth": 4, "num_heads": 6, "num_register_tokens": 4},
    "vit": {"embed_dim": 192, "depth": 2, "num_heads": 6},
    "camera_head": {"trunk_depth": 1, "num_heads": 6},
    "dpt": {"features": 32, "out_channels": [32, 48, 64, 96], "intermediate_layer_idx": [0, 1, 2, 3]},
}
WARM_UP = 200
MOMENTUM = 0.998
"""Of the average of the weights, which is what is shipped."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention by hand: in bfloat16 on a CPU faster than the fused one."""
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, -1) @ v


def build() -> nn.Module:
    """The network with weights drawn for learning from scratch (released LayerScales, 0.01, learn slowly)."""
    torch.manual_seed(0)
    network = build_model("vggt", CONFIG)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
        elif name.endswith(("camera_token", "register_token", "register_tokens", "cls_token", "pos_embed")):
            nn.init.normal_(parameter, std=0.02 if "pos" in name else 0.5)
        elif parameter.dim() == 2:
            gain = 0.35 if name.endswith(("attn.proj.weight", "mlp.fc2.weight")) else 0.7
            nn.init.trunc_normal_(parameter, std=gain * parameter.shape[1] ** -0.5)
        elif name.endswith("bias") and "norm" not in name:
            nn.init.zeros_(parameter)
    with (
        torch.no_grad()
    ):  # begin near the middle of the poses: hardly turned, a field of view of some 70 degrees
        network.camera_head.pose_branch.fc2.weight *= 0.1
        network.camera_head.pose_branch.fc2.bias[6] = 0.25
        network.camera_head.pose_branch.fc2.bias[7:] = 0.3
    network.depth_head.frames_per_chunk = network.point_head.frames_per_chunk = 64
    return network.train()


def predict(network: nn.Module, pictures: Tensor, chosen: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Pose codes after each iteration, and depth, its confidence, points, theirs, for the ``chosen`` frames."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = network.aggregator(pictures)
    tokens = {index: value.float() for index, value in tokens.items()}
    codes = network.camera_head(tokens[max(tokens)])
    part = {index: value[:, chosen] for index, value in tokens.items()}
    specials = network.aggregator.special_tokens
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dense = [
            *network.depth_head(part, pictures[:, chosen], specials),
            *network.point_head(part, pictures[:, chosen], specials),
        ]
    return codes, [value.float() for value in dense]


def loss_of(
    network: nn.Module, images: Tensor, pose: Tensor, depth: Tensor, points: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The loss and its parts; the dense heads see half of the frames, which halves their cost."""
    chosen = torch.randperm(images.shape[1])[: (images.shape[1] + 1) // 2]
    codes, dense = predict(network, images.permute(0, 1, 4, 2, 3).float() / 255, chosen)
    poses = [F.smooth_l1_loss(code, pose, beta=0.05) * 0.7 ** (3 - i) for i, code in enumerate(codes)]
    depth_loss = confident_loss(dense[0], depth[:, chosen, ..., None], dense[1])
    points_loss = confident_loss(dense[2], points[:, chosen], dense[3])
    parts = {"pose": poses[-1], "depth": depth_loss, "points": points_loss}
    total = 10 * sum(poses, torch.zeros(())) + 0.5 * depth_loss + 0.5 * points_loss
    return total, {name: float(value.detach()) for name, value in parts.items()}


def confident_loss(value: Tensor, truth: Tensor, confidence: Tensor) -> Tensor:
    """The network may call a pixel hard, at a price (Kendall & Gal 2017); the plain error keeps it from giving up."""
    error = (value - truth).abs().mean(-1)
    return (error * confidence - 0.2 * confidence.log()).mean() + error.mean()


@torch.no_grad()
def quality(network: nn.Module, count: int) -> dict[str, float]:
    """AUC@30/15/5 and AbsRel on rooms that are neither trained on nor held out for the published figures."""
    found: dict[str, list[float]] = {name: [] for name in ("auc30", "auc15", "auc5", "abs_rel")}
    for index in range(count):
        drawn = render([plan_room(index, views=4, seed=999, split="calibration")], SIZE)
        codes, dense = predict(network, drawn.images.permute(0, 1, 4, 2, 3).float() / 255, torch.arange(4))
        cameras = cameras_from_code(codes[-1][0].double(), SIZE, SIZE)[0].numpy()
        errors = camera_errors(cameras, drawn.camera_from_world[0].numpy())
        for degrees in (30, 15, 5):
            found[f"auc{degrees}"].append(auc(*errors, degrees))
        found["abs_rel"].append(depth_scores(dense[0][0, ..., 0].numpy(), drawn.depth[0].numpy()).abs_rel)
    return {name: float(np.mean(values)) for name, values in found.items()}


def optimizers(network: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    hidden, other = [], []
    for name, parameter in network.named_parameters():
        (hidden if "blocks" in name and parameter.dim() == 2 else other).append(parameter)
    return [
        torch.optim.AdamW(other, lr=lr, betas=(0.9, 0.98), weight_decay=0.02),
        torch.optim.Muon(hidden, lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
    ]


class Trainer:
    """The state of a training, and one step of it; one process of ``world_size``."""

    def __init__(self, args: argparse.Namespace, *, rank: int, world_size: int) -> None:
        self.args, self.rank, self.world_size = args, rank, world_size
        self.file = args.out / "state.pt"
        self.network = build()
        self.average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.optimizers = optimizers(self.network, args.lr)
        self.frames = self.step = 0
        self.losses: dict[str, float] = {}
        if self.file.exists():
            self._restore(torch.load(self.file, weights_only=True))
        self.pool = Pool(rank=rank, world_size=world_size, start=self.frames)
        self.rng = np.random.default_rng(self.step)
        torch.manual_seed(1000 * self.step + rank)

    @property
    def rate(self) -> float:
        """Warm-up, constant, then linear to zero over the last ``--decay`` pictures."""
        left = max(self.args.frames - self.frames, 0) / self.args.decay + 0.01
        return float(self.args.lr * min(1.0, (self.step + 1) / WARM_UP, left))

    def train_step(self) -> None:
        """One batch: 2 to 4 views a room, the same number for all rooms of a batch."""
        views = int(self.rng.choice([2, 3, 4], p=[0.2, 0.3, 0.5]))
        reference = reference_camera() if self.frames < self.args.absolute else None
        images, depth, cameras = self.pool.batch(self.args.batch, views)
        pose, points = targets(depth, cameras, self.pool.intrinsics, reference)
        loss, parts = loss_of(self.network, images, pose, depth, points)
        loss.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step, self.frames = self.step + 1, self.frames + images.shape[0] * views * self.world_size
        self.losses = {k: 0.98 * self.losses.get(k, v) + 0.02 * v for k, v in parts.items()}
        with torch.no_grad():
            keep = min(MOMENTUM, (self.step + 1) / (self.step + 10))
            for name, parameter in self.network.named_parameters():
                self.average[name].lerp_(parameter, 1 - keep)

    def averaged_quality(self) -> dict[str, float]:
        """The quality of the averaged weights; those in training stay as they are."""
        current = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.network.load_state_dict(self.average, strict=False)
        found = quality(self.network.eval(), 24)
        self.network.load_state_dict(current, strict=False)
        self.network.train()
        return found

    def save(self) -> None:
        """Write everything that going on needs, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "frames": self.frames,
            "step": self.step,
        }
        torch.save(state, self.file.with_suffix(".tmp"))
        self.file.with_suffix(".tmp").replace(self.file)

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average, self.frames, self.step = state["average"], state["frames"], state["step"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _share_gradients(self) -> None:
        if self.world_size == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient) / self.world_size)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for state.pt and log.jsonl")
    parser.add_argument("--frames", type=int, default=170_000, help="pictures to train on in all")
    parser.add_argument(
        "--absolute", type=int, default=19_000, help="of these, told in the frame of a fixed camera"
    )
    parser.add_argument(
        "--decay", type=int, default=60_000, help="of these, at the end, with a falling learning rate"
    )
    parser.add_argument("--batch", type=int, default=32, help="pictures a step and process")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop (resumably) after this long")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    args = arguments(given)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        dist.init_process_group("gloo")
    layers.scaled_dot_product_attention = attention
    trainer = Trainer(args, rank=dist.get_rank() if world_size > 1 else 0, world_size=world_size)
    started = time.time()
    while trainer.frames < args.frames and time.time() - started < args.seconds:
        trainer.train_step()
        if trainer.rank == 0 and trainer.step % 50 == 0:
            record = {"step": trainer.step, "frames": trainer.frames, "seconds": round(time.time() - started)}
            record |= {"lr": trainer.rate, **{k: round(v, 4) for k, v in trainer.losses.items()}}
            if trainer.step % 500 == 0:
                record |= trainer.averaged_quality()
                trainer.save()
            with (args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
    if trainer.rank == 0:
        trainer.save()


if __name__ == "__main__":
    main()
