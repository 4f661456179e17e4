"""How well a shipped model reconstructs held-out rooms, with and without its view across frames.

    python benchmarks/mini_quality.py [--model pi3-mini] [--rooms 100] [--seed 7] [--write]

Rooms of the split "held-out" are never trained on. ``--write`` puts the figures into the model's card in assets/.
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

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def measure(name: str, count: int, seed: int) -> dict[str, dict[str, float | None]]:
    """Scores of the full-precision model on rooms of four views, whole and with each frame alone."""
    model = ql.load_model(name)
    recipe = ql.Recipe.preset("full_precision")
    held_out = ql.rooms(count, views=4, seed=seed)
    scores = {}
    for case, across in (("whole", True), ("each frame alone", False)):
        model.network.cross_frame = across
        lab = ql.Lab(model, calibration=held_out[:1], evaluation=held_out, recipe=recipe)
        truth = lab.evaluate().ground_truth
        scores[case] = {} if truth is None else {k: v for k, v in asdict(truth).items() if v is not None}
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("mini", "pi3-mini"), default="mini")
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="put the figures into the card in assets/")
    args = parser.parse_args()
    started = time.perf_counter()
    scores = measure(args.model, args.rooms, args.seed)
    quality = {
        "command": "python benchmarks/mini_quality.py "
        f"--model {args.model} --rooms {args.rooms} --seed {args.seed}",
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
        file = ASSETS / f"{args.model}.json"
        card = json.loads(file.read_text())
        file.write_text(json.dumps(card | {"quality": quality}, indent=2) + "\n")


if __name__ == "__main__":
    main()
