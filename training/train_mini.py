"""Train the built-in model `mini`: VGGT's classes at a small size, on rooms of quantlab.scenes.synthetic.

The curriculum: first every pose is told in the frame of one fixed reference camera (a network can learn
that from each picture alone), then in the frame of the first camera, which is VGGT's task and needs the
other pictures. From scratch the second task stays at chance for longer than a laptop has patience.

    python -m torch.distributed.run --nproc-per-node 2 training/train_mini.py --out FOLDER --frames 900000

Stops and resumes: everything lives in FOLDER/state.pt; a run with other arguments goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models import layers
from quantlab.models.zoo import build_model
from quantlab.scenes.synthetic import MINI_WORLD, plan_room, render, world_points

CONFIG = {
    "patch_size": 12,
    "aggregator": {"img_size": 96, "embed_dim": 192, "depth": 4, "num_heads": 6, "num_register_tokens": 4},
    "vit": {"embed_dim": 192, "depth": 2, "num_heads": 6},
    "camera_head": {"trunk_depth": 1, "num_heads": 6},
    "dpt": {"features": 32, "out_channels": [32, 48, 64, 96], "intermediate_layer_idx": [0, 1, 2, 3]},
}
VIEWS = 6
POOL = 3000
REUSE = 4


class Pool:
    """A ring of rendered rooms; each step replaces some, so that a room is used about REUSE times in other orders."""

    def __init__(self, *, rank: int, world_size: int, start: int) -> None:
        self.next, self.stride = start * world_size + rank, world_size
        self.rng = np.random.default_rng([rank, start, 5])
        self.images = torch.zeros(POOL, VIEWS, 96, 96, 3, dtype=torch.uint8)
        self.depth = torch.zeros(POOL, VIEWS, 96, 96, dtype=torch.float16)
        self.cameras = torch.zeros(POOL, VIEWS, 4, 4, dtype=torch.float64)
        self.intrinsics = torch.zeros(3, 3, dtype=torch.float64)
        self.filled = self.cursor = 0

    def add(self, count: int) -> None:
        plans = []
        for _ in range(count):
            plans.append(plan_room(self.next, views=VIEWS, seed=0, split="training", world=MINI_WORLD))
            self.next += self.stride
        drawn = render(plans, 96)
        where = (self.cursor + torch.arange(count)) % POOL
        self.images[where], self.depth[where] = drawn.images, drawn.depth.half()
        self.cameras[where], self.intrinsics = drawn.camera_from_world, drawn.intrinsics[0, 0]
        self.cursor = (self.cursor + count) % POOL
        self.filled = min(self.filled + count, POOL)

    def batch(self, frames: int, views: int) -> tuple[Tensor, Tensor, Tensor]:
        count = frames // views
        self.add(max(1, round(frames / VIEWS / REUSE)) if self.filled > 200 else 64)
        rooms = torch.as_tensor(self.rng.integers(self.filled, size=count))[:, None]
        views_of = torch.as_tensor(np.stack([self.rng.permutation(VIEWS)[:views] for _ in range(count)]))
        return (
            self.images[rooms, views_of],
            self.depth[rooms, views_of].float(),
            self.cameras[rooms, views_of],
        )


def targets(
    depth: Tensor, cameras: Tensor, intrinsics: Tensor, reference: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pose encodings [B,S,9] and world points [B,S,H,W,3] in the frame of ``reference`` or of the first camera."""
    world = cameras[:, :1] if reference is None else reference
    relative = (cameras @ torch.linalg.inv(world)).float()
    height, width = depth.shape[-2:]
    fov = 2 * torch.atan(torch.tensor([height / 2, width / 2]) / intrinsics[0, 0]).float()
    quaternion = rotation_to_quaternion(relative[..., :3, :3])
    pose = torch.cat([relative[..., :3, 3], quaternion, fov.expand(*depth.shape[:2], 2)], -1)
    return pose, world_points(depth, relative, intrinsics.expand(*depth.shape[:2], 3, 3))


def rotation_to_quaternion(rotation: Tensor) -> Tensor:
    """Scalar-last unit quaternion of rotations well below 180 degrees, as all of these are."""
    w = (1 + rotation.diagonal(dim1=-2, dim2=-1).sum(-1)).clamp_min(1e-6).sqrt() / 2
    skew = (rotation - rotation.mT) / (4 * w[..., None, None])
    return torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0], w], -1)


def reference_camera() -> Tensor:
    """The fixed world frame of the first part: a camera in the middle of the range that the rooms use."""
    camera = torch.eye(4, dtype=torch.float64)
    tilt = np.radians(20.0)
    camera[1:3, 1:3] = torch.tensor([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    camera[2, 3] = 1.95
    return camera


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention by hand: in bfloat16 on a CPU faster than the fused one."""
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, -1) @ v


def confident_loss(value: Tensor, truth: Tensor, confidence: Tensor) -> Tensor:
    """The network may call a pixel hard, at a price (Kendall & Gal 2017); the plain error keeps it from giving up."""
    error = (value - truth).abs().mean(-1)
    return (error * confidence - 0.2 * confidence.log()).mean() + error.mean()


def loss_of(
    network: nn.Module, images: Tensor, pose: Tensor, depth: Tensor, points: Tensor
) -> tuple[Tensor, dict]:
    pictures = images.permute(0, 1, 4, 2, 3).float() / 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = network.aggregator(pictures)
    tokens = {index: value.float() for index, value in tokens.items()}
    iterations = network.camera_head(tokens[max(tokens)])
    per_iteration = [F.smooth_l1_loss(p, pose, beta=0.05) * 0.7 ** (3 - i) for i, p in enumerate(iterations)]
    chosen = torch.randperm(images.shape[1])[: (images.shape[1] + 1) // 2]
    specials = network.aggregator.special_tokens
    part = {index: value[:, chosen] for index, value in tokens.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        depth_hat, depth_conf = network.depth_head(part, pictures[:, chosen], specials)
        points_hat, points_conf = network.point_head(part, pictures[:, chosen], specials)
    depth_loss = confident_loss(depth_hat.float(), depth[:, chosen, ..., None], depth_conf.float())
    points_loss = confident_loss(points_hat.float(), points[:, chosen], points_conf.float())
    total = 10 * sum(per_iteration) + 0.5 * depth_loss + 0.5 * points_loss
    parts = {"pose": per_iteration[-1], "depth": depth_loss, "points": points_loss}
    return total, {name: float(value.detach()) for name, value in parts.items()}


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
            nn.init.trunc_normal_(parameter, std=0.7 * parameter.shape[1] ** -0.5)
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
                parameter.data *= 0.5
        elif name.endswith("bias") and parameter.dim() == 1 and "norm" not in name:
            nn.init.zeros_(parameter)
    nn.init.constant_(network.camera_head.pose_branch.fc2.bias, 0.0)
    with torch.no_grad():
        network.camera_head.pose_branch.fc2.weight *= 0.1
        network.camera_head.pose_branch.fc2.bias[6] = 0.25
        network.camera_head.pose_branch.fc2.bias[7:] = 0.3
    network.depth_head.frames_per_chunk = network.point_head.frames_per_chunk = 64
    network.requires_grad_(True)
    return network.train()


def optimizers(network: nn.Module, name: str, lr: float) -> list[torch.optim.Optimizer]:
    hidden, other = [], []
    for key, parameter in network.named_parameters():
        in_block = "blocks" in key
        (hidden if name == "muon" and in_block and parameter.dim() == 2 else other).append(parameter)
    result: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(other, lr=lr, betas=(0.9, 0.98), weight_decay=0.02)
    ]
    if hidden:
        result.append(torch.optim.Muon(hidden, lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"))
    return result


@torch.no_grad()
def quality(network: nn.Module, count: int) -> dict[str, float]:
    """AUC@30/15/5 and AbsRel on rooms that are neither trained on nor held out for the published figures."""
    plans = [plan_room(i, views=4, seed=999, split="calibration", world=MINI_WORLD) for i in range(count)]
    angles, relative_depth = [], []
    network.eval()
    for start in range(0, count, 8):
        drawn = render(plans[start : start + 8], 96)
        pictures = drawn.images.permute(0, 1, 4, 2, 3).float() / 255
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens = network.aggregator(pictures)
            tokens = {index: value.float() for index, value in tokens.items()}
            depth, _ = network.depth_head(tokens, pictures, network.aggregator.special_tokens)
        pose = network.camera_head(tokens[max(tokens)])[-1]
        angles.append(pair_errors(pose, drawn.camera_from_world.float()))
        ratio = drawn.depth.flatten(1) / depth.float().flatten(1)
        aligned = depth.float().flatten(1) * ratio.median(1, keepdim=True).values
        relative_depth.append(((aligned - drawn.depth.flatten(1)).abs() / drawn.depth.flatten(1)).mean(1))
    network.train()
    error = torch.cat(angles).flatten().numpy()
    auc = {f"auc{t}": float(np.mean([(error < k).mean() for k in range(1, t + 1)])) for t in (30, 15, 5)}
    return auc | {"abs_rel": float(torch.cat(relative_depth).mean())}


def pair_errors(pose: Tensor, cameras: Tensor) -> Tensor:
    """Larger of rotation and translation-direction error of every pair, degrees (the published inv(E_i) E_j form)."""
    x, y, z, w = F.normalize(pose[..., 3:7], dim=-1).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]
    rows += [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)]
    rows += [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
    predicted = torch.eye(4).repeat(*pose.shape[:2], 1, 1)
    predicted[..., :3, :3] = torch.stack(rows, -1).unflatten(-1, (3, 3))
    predicted[..., :3, 3] = pose[..., :3]
    first, second = torch.triu_indices(pose.shape[1], pose.shape[1], 1)
    relative = [
        (torch.linalg.inv(e @ torch.linalg.inv(e[:, :1])))[:, first]
        @ (e @ torch.linalg.inv(e[:, :1]))[:, second]
        for e in (predicted, cameras)
    ]
    trace = (relative[0][..., :3, :3].mT @ relative[1][..., :3, :3]).diagonal(dim1=-2, dim2=-1).sum(-1)
    rotation = torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))
    cosine = F.cosine_similarity(relative[0][..., :3, 3], relative[1][..., :3, 3], dim=-1).abs().clamp(max=1)
    return torch.maximum(rotation, torch.rad2deg(torch.acos(cosine)))


def synchronise(network: nn.Module, world_size: int) -> None:
    if world_size > 1:
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad) / world_size)


def save(path: Path, state: dict) -> None:
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for state.pt and log.jsonl, outside the repository"
    )
    parser.add_argument("--frames", type=int, default=900_000, help="pictures to train on in all")
    parser.add_argument(
        "--absolute", type=int, default=100_000, help="of these, in the frame of the fixed reference camera"
    )
    parser.add_argument(
        "--decay",
        type=int,
        default=200_000,
        help="of these, with the learning rate falling to zero at the end",
    )
    parser.add_argument("--batch", type=int, default=32, help="pictures a step and process")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--optimizer", choices=["muon", "adamw"], default="muon")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop (resumably) after this long")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if world_size > 1 else 0
    layers.scaled_dot_product_attention = attention
    network = build()
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    steps_of = optimizers(network, args.optimizer, args.lr)
    frames = step = 0
    args.out.mkdir(parents=True, exist_ok=True)
    state_file = args.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        network.load_state_dict(state["network"])
        average, frames, step = state["average"], state["frames"], state["step"]
        for optimizer, saved in zip(steps_of, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    pool = Pool(rank=rank, world_size=world_size, start=frames)
    rng = np.random.default_rng(step)
    torch.manual_seed(1000 * step + rank)
    started, tail = time.time(), {}
    while frames < args.frames and time.time() - started < args.seconds:
        views = int(rng.choice([2, 3, 4], p=[0.2, 0.3, 0.5]))
        reference = reference_camera() if frames < args.absolute else None
        images, depth, cameras = pool.batch(args.batch, views)
        pose, points = targets(depth, cameras, pool.intrinsics, reference)
        loss, parts = loss_of(network, images, pose, depth, points)
        loss.backward()
        synchronise(network, world_size)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        factor = min(1.0, (step + 1) / 200, max(args.frames - frames, 0) / args.decay + 0.01)
        for optimizer in steps_of:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, frames = step + 1, frames + images.shape[0] * views * world_size
        with torch.no_grad():
            keep = min(0.998, (step + 1) / (step + 10))
            for name, parameter in network.named_parameters():
                average[name].lerp_(parameter, 1 - keep)
        tail = {k: 0.98 * tail.get(k, v) + 0.02 * v for k, v in parts.items()}
        if rank == 0 and step % 50 == 0:
            record = {
                "step": step,
                "frames": frames,
                "seconds": round(time.time() - started),
                "lr": args.lr * factor,
            }
            record |= {k: round(v, 4) for k, v in tail.items()}
            if step % 500 == 0:
                current = {name: p.detach().clone() for name, p in network.named_parameters()}
                network.load_state_dict(average, strict=False)
                record |= quality(network, 24)
                network.load_state_dict(current, strict=False)
                saved = [optimizer.state_dict() for optimizer in steps_of]
                save(
                    state_file,
                    {
                        "network": network.state_dict(),
                        "average": average,
                        "optimizers": saved,
                        "frames": frames,
                        "step": step,
                    },
                )
            with (args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
    if rank == 0:
        saved = [optimizer.state_dict() for optimizer in steps_of]
        save(
            state_file,
            {
                "network": network.state_dict(),
                "average": average,
                "optimizers": saved,
                "frames": frames,
                "step": step,
            },
        )


if __name__ == "__main__":
    main()
