"""Turn a training state into the shipped weights: averaged, float16, with configuration and origin. Measures nothing.

    python training/ship_mini.py FOLDER/state.pt assets/mini.safetensors --command "the training command"

The quality in assets/mini.json is written by benchmarks/mini_quality.py afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from train_mini import CONFIG, build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--command", required=True, help="how the state was trained, for the record")
    args = parser.parse_args()
    state = torch.load(args.state, weights_only=True)
    network = build()
    network.load_state_dict(state["network"])
    network.load_state_dict(state["average"], strict=False)
    tensors = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise SystemExit("a weight does not fit float16")
    save_file(tensors, args.out, metadata={"kind": "vggt", "config": json.dumps(CONFIG)})
    card = {
        "file": args.out.name,
        "what": "VGGT at a small size, trained on the rooms of quantlab.scenes.synthetic; it knows only these",
        "licence": "MIT",
        "parameters": sum(value.numel() for value in tensors.values()),
        "bytes": args.out.stat().st_size,
        "sha256": hashlib.sha256(args.out.read_bytes()).hexdigest(),
        "training": {"command": args.command, "frames": state["frames"], "split": "training", "seed": 0},
    }
    args.out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
