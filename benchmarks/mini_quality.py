"""How well the shipped `mini` reconstructs held-out rooms, with and without its view across frames.

    python benchmarks/mini_quality.py [--rooms 100] [--seed 7] [--write]

Rooms of the split "held-out" are never trained on. ``--write`` puts the figures into assets/mini.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

import quantlab as ql

CARD = Path(__file__).resolve().parent.parent / "assets" / "mini.json"


def measure(count: int, seed: int) -> dict[str, dict[str, float | None]]:
    """Scores of the full-precision model on rooms of four views, whole and with each frame alone."""
    model = ql.load_model("mini")
    recipe = ql.Recipe.preset("full_precision")
    held_out = ql.rooms(count, views=4, seed=seed)
    scores = {}
    for name, across in (("whole", True), ("each frame alone", False)):
        model.network.aggregator.cross_frame = across
        lab = ql.Lab(model, calibration=held_out[:1], evaluation=held_out, recipe=recipe)
        truth = lab.evaluate().ground_truth
        scores[name] = {} if truth is None else {k: v for k, v in asdict(truth).items() if v is not None}
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="put the figures into assets/mini.json")
    args = parser.parse_args()
    started = time.perf_counter()
    scores = measure(args.rooms, args.seed)
    quality = {
        "command": f"python benchmarks/mini_quality.py --rooms {args.rooms} --seed {args.seed}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "rooms": args.rooms,
        "views": 4,
        "split": "held-out",
        "seed": args.seed,
        **scores,
    }
    print(json.dumps(quality | {"seconds": round(time.perf_counter() - started, 1)}, indent=2))
    if args.write:
        card = json.loads(CARD.read_text())
        CARD.write_text(json.dumps(card | {"quality": quality}, indent=2) + "\n")


if __name__ == "__main__":
    main()
