"""Turn a training's averaged weights into a shipped model: float16, with configuration and origin. Measures nothing.

    python training/ship_mini.py FOLDER/average.pt assets/pi3-mini.safetensors --command "the training command"

The quality in the card beside the weights is written by benchmarks/mini_quality.py afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from train_mini import TASKS

NAMES = {"vggt": "VGGT", "pi3": "Pi3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("average", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--command", required=True, help="how it was trained, for the record")
    parser.add_argument("--note", default="", help="when and on what, for the record")
    args = parser.parse_args()
    saved = torch.load(args.average, weights_only=True)
    task = TASKS[saved["kind"]]
    network = task.build()
    network.load_state_dict(saved["average"], strict=True)
    tensors = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    # What is not learned (the mean and spread of the pictures) is shipped unrounded.
    tensors |= {name: value for name, value in task.build().named_buffers() if name in tensors}
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise SystemExit("a weight does not fit float16")
    save_file(tensors, args.out, metadata={"kind": task.KIND, "config": json.dumps(task.CONFIG)})
    training = {"command": args.command, "frames": saved["frames"], "split": "training", "seed": 0}
    card = {
        "file": args.out.name,
        "what": f"{NAMES[task.KIND]} at a small size, trained on the rooms of quantlab.scenes.synthetic; "
        "it knows only these",
        "licence": "MIT",
        "parameters": sum(value.numel() for value in network.parameters()),
        "bytes": args.out.stat().st_size,
        "sha256": hashlib.sha256(args.out.read_bytes()).hexdigest(),
        "training": training | ({"note": args.note} if args.note else {}),
    }
    args.out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
