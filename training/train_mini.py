"""Train a built-in model from scratch on rooms of quantlab.scenes.synthetic: `mini` (VGGT) or `pi3-mini` (Pi3).

    python training/train_mini.py --kind pi3 --device cuda --out FOLDER
    python -m torch.distributed.run --nproc-per-node 2 training/train_mini.py --kind vggt --out FOLDER  (two cores)

What is special to a network stands in vggt_task.py and pi3_task.py, the pictures come from pool.py.
Stops and resumes: everything lives in FOLDER/state.pt; a run with other arguments goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pi3_task
import torch
import torch.distributed as dist
import vggt_task
from pool import Pool, held_out_rooms, reference_camera
from torch import Tensor, nn

from quantlab.geometry.scores import auc, camera_errors, depth_scores
from quantlab.models import layers

TASKS: dict[str, ModuleType] = {task.KIND: task for task in (vggt_task, pi3_task)}
WARM_UP = 200
MOMENTUM = 0.998
"""Of the average of the weights, which is what is shipped."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention by hand: in bfloat16 on a CPU faster than the fused one."""
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, -1) @ v


def quality(task: ModuleType, network: nn.Module, device: str, count: int) -> dict[str, float]:
    """AUC@30/15/5 and AbsRel on rooms that are neither trained on nor held out for the published figures."""
    found: dict[str, list[float]] = {name: [] for name in ("auc30", "auc15", "auc5", "abs_rel")}
    for pictures, truth, depth in held_out_rooms(count):
        cameras, predicted = task.cameras_and_depth(network, pictures.to(device))
        errors = camera_errors(cameras.cpu().numpy(), truth.numpy())
        for degrees in (30, 15, 5):
            found[f"auc{degrees}"].append(auc(*errors, degrees))
        found["abs_rel"].append(depth_scores(predicted.float().cpu().numpy(), depth.numpy()).abs_rel)
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def optimizers(network: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    hidden, other = [], []
    for name, parameter in network.named_parameters():
        in_block = "blocks" in name or name.startswith("decoder.")
        (hidden if in_block and parameter.dim() == 2 else other).append(parameter)
    return [
        torch.optim.AdamW(other, lr=lr, betas=(0.9, 0.98), weight_decay=0.02),
        torch.optim.Muon(hidden, lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
    ]


class Trainer:
    """The state of a training, and one step of it; one process of ``world_size``."""

    def __init__(self, args: argparse.Namespace, *, rank: int, world_size: int) -> None:
        self.args, self.rank, self.world_size = args, rank, world_size
        self.task, self.file = TASKS[args.kind], args.out / "state.pt"
        self.network = self.task.build().to(args.device)
        self.average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.optimizers = optimizers(self.network, args.lr)
        self.frames = self.step = 0
        self.losses: dict[str, Tensor] = {}
        if self.file.exists():
            self._restore(torch.load(self.file, weights_only=True, map_location=args.device))
        self.pool = Pool(
            rooms=args.rooms, device=args.device, rank=rank, world_size=world_size, start=self.frames
        )
        self.reference = reference_camera().to(args.device)
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
        reference = self.reference if self.frames < self.args.absolute else None
        images, depth, cameras = self.pool.batch(self.args.batch, views)
        loss, parts = self.task.loss_of(self.network, images, depth, cameras, self.pool.intrinsics, reference)
        loss.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step, self.frames = self.step + 1, self.frames + images.shape[0] * views * self.world_size
        self.losses = {k: self.losses.get(k, v.detach()).lerp(v.detach(), 0.02) for k, v in parts.items()}
        keep = min(MOMENTUM, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.network.parameters()), 1 - keep)

    def averaged_quality(self) -> dict[str, float]:
        """The quality of the averaged weights; those in training stay as they are."""
        current = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.network.load_state_dict(self.average, strict=False)
        found = quality(self.task, self.network.eval(), self.args.device, self.args.watched)
        self.network.load_state_dict(current, strict=False)
        self.network.train()
        return found

    def save(self) -> None:
        """Write everything that going on needs, and what is shipped in a small file; each whole or not at all."""
        shipped = self.network.state_dict() | self.average
        half = {name: value.half().cpu() for name, value in shipped.items()}
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "frames": self.frames,
            "step": self.step,
        }
        average = {"kind": self.args.kind, "frames": self.frames, "average": half}
        for file, content in ((self.file, state), (self.args.out / "average.pt", average)):
            torch.save(content, file.with_suffix(".tmp"))
            file.with_suffix(".tmp").replace(file)

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
    parser.add_argument("--kind", choices=sorted(TASKS), default="vggt")
    parser.add_argument("--device", default="cpu")
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
    parser.add_argument("--rooms", type=int, default=3000, help="rendered rooms kept at a time")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes that plan rooms for a GPU"
    )
    parser.add_argument("--watched", type=int, default=24, help="rooms the quality in the log is measured on")
    parser.add_argument("--every", type=int, default=500, help="steps between two savings and measurements")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop (resumably) after this long")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    args = arguments(given)
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        dist.init_process_group("gloo")
    if args.device == "cpu":
        layers.scaled_dot_product_attention = attention
    trainer = Trainer(args, rank=dist.get_rank() if world_size > 1 else 0, world_size=world_size)
    if not trainer.pool.replaces:
        trainer.pool.fill(args.workers)
    while trainer.frames < args.frames and time.time() - started < args.seconds:
        trainer.train_step()
        if trainer.rank == 0 and (trainer.step % 50 == 0 or trainer.step % args.every == 0):
            record = {
                "step": trainer.step,
                "frames": trainer.frames,
                "seconds": round(time.time() - started, 1),
            }
            record |= {"lr": trainer.rate, **{k: round(float(v), 4) for k, v in trainer.losses.items()}}
            if trainer.step % args.every == 0:
                record |= trainer.averaged_quality()
                trainer.save()
            print(json.dumps(record), flush=True)
            with (args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
    if trainer.rank == 0:
        trainer.save()


if __name__ == "__main__":
    main()
