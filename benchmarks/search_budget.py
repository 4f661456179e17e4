"""Half the 8-bit size: bits searched for every layer against equal bits, on held-out rooms. Writes a table; no test.

    python benchmarks/search_budget.py [--methods rtn:8,quarot:8] [--seeds 3] [--rooms 30] [--budget 50%]

A method is a preset and the bits of its activations. Every search looks at calibration rooms only; what it chose and
the same bits everywhere (4, which weigh a little more than the budget, and 3) are then scored on rooms that neither
saw. Rows that were measured before with the same arguments are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
METHODS = "quarot:8,rtn:8,smoothquant:8,quarot:4,gptq:8"
ROOMS_SEED = 100
EQUAL = (4, 3)


def measure(method: str, seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    """One search, and point errors on the held-out rooms."""
    import torch

    import quantlab as ql
    from quantlab.scenes.synthetic import rooms

    torch.set_num_threads(1)
    preset, activations = method.split(":")
    held_out = rooms(arguments.rooms, seed=ROOMS_SEED + seed, split="held-out")
    recipe = ql.Recipe.preset(preset, weights=4, activations=int(activations))
    lab = ql.Lab(ql.load_model(arguments.model), evaluation=held_out, recipe=recipe, seed=seed)
    begun, processor = time.perf_counter(), time.process_time()
    found = lab.search(arguments.budget, seed=seed)
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    same = lab.search(seed=seed)  # what 4 bits weigh; single layers are remembered
    scan, check = found.sensitivity, found.sensitivity.check

    def score(chosen: ql.Recipe) -> list[float]:
        return [lab.compare(index, recipe=chosen).point_error for index in range(len(held_out))]

    equal = {bits: ql.Recipe.preset(preset, weights=bits, activations=int(activations)) for bits in EQUAL}
    return {
        "method": method,
        "seed": seed,
        "rooms": arguments.rooms,
        "budget": arguments.budget,
        "model": arguments.model,
        "bytes": found.chosen.bytes - scan.fixed_bytes,
        "equal_bytes": {
            b: found.sensitivity.size(found.sensitivity.uniform(b)) - found.sensitivity.fixed_bytes
            for b in EQUAL
        },
        "predicted": found.chosen.predicted,
        "calibration": found.chosen.verified.drift,
        "held_out": score(found.chosen.recipe),
        "same_size": score(same.chosen.recipe),
        "equal": {bits: score(own) for bits, own in equal.items()},
        "spearman": check.spearman,
        "ratio": check.ratio,
        "tried": found.tried,
        "seconds": seconds,
        "processor": processor,
    }


HEADER = (
    "method, activations",
    "searched, half the 8-bit size",
    "3 bits",
    "searched, size of 4 bits",
    "4 bits",
    "half size against 4 bits",
    "equal size against 4 bits",
    "seeds better (half, equal)",
    "rooms better (half, equal)",
    "sum against truth: rank correlation, ratio",
    "seconds of processor (of wall)",
)


def table(rows: list[dict], arguments: argparse.Namespace) -> str:
    """The result as Markdown; every number is a mean over rooms and seeds."""
    machine = f"{platform.processor() or platform.machine()}, one thread of a machine that other work shared"
    text = (
        f"{datetime.now(UTC):%Y-%m-%d}; {machine}; model {arguments.model}. Point error: mean distance after Sim(3), "
        f"in percent of the size of the scene, on {arguments.rooms} held-out rooms a seed. Up to {arguments.seeds} "
        "seeds, each with other rooms to search on and other rooms to score on. Sizes are those of the quantized "
        "layers, scales included: 4 bits everywhere weigh a little more than half of 8 bits, so a second search has "
        "their size. A search measures single layers, runs candidates and improves the best of them; its seconds "
        "include all that."
    )
    asked = [
        f"--{name} {getattr(arguments, name)}" for name in ("model", "methods", "seeds", "rooms", "budget")
    ]
    command = " ".join(["python benchmarks/search_budget.py", *asked])
    lines = ["# Searched bits against equal bits at half the 8-bit size", "", f"`{command}`", "", text, ""]
    lines += [f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        lines.append(f"| {' | '.join(_cells(method, [row for row in rows if row['method'] == method]))} |")
    return "\n".join(lines) + "\n"


def _cells(method: str, rows: list[dict]) -> list[str]:
    def mean(key: str) -> float:
        return float(np.mean([row[key] for row in rows]))

    half, same = (np.array([row[key] for row in rows]) for key in ("held_out", "same_size"))
    four, three = (np.array([row["equal"][str(bits)] for row in rows]) for bits in EQUAL)
    seeds = [int((own.mean(axis=1) < four.mean(axis=1)).sum()) for own in (half, same)]
    return [
        method.replace(":", ", "),
        f"**{half.mean():.3%}** ({mean('bytes') / 1e6:.3f} MB)",
        f"{three.mean():.3%} ({rows[0]['equal_bytes']['3'] / 1e6:.3f} MB)",
        f"**{same.mean():.3%}**",
        f"{four.mean():.3%} ({rows[0]['equal_bytes']['4'] / 1e6:.3f} MB)",
        f"{half.mean() / four.mean() - 1:+.0%}",
        f"{same.mean() / four.mean() - 1:+.0%}",
        f"{seeds[0]}, {seeds[1]} of {len(rows)}",
        f"{(half < four).mean():.0%}, {(same < four).mean():.0%}",
        f"{mean('spearman'):.2f}, {mean('ratio'):.2f}",
        f"{mean('processor'):.0f} ({mean('seconds'):.0f})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rooms", type=int, default=30)
    parser.add_argument("--budget", default="50%")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_budget.md")
    arguments = parser.parse_args()
    kept = arguments.out.with_suffix(".json")
    rows = json.loads(kept.read_text()) if kept.exists() else []
    asked = {name: getattr(arguments, name) for name in ("model", "rooms", "budget")}
    for seed in range(arguments.seeds):
        for method in arguments.methods.split(","):
            wanted = {**asked, "method": method, "seed": seed}
            if any(all(row[key] == value for key, value in wanted.items()) for row in rows):
                continue
            rows.append(json.loads(json.dumps(measure(method, seed, arguments))))
            kept.write_text(json.dumps(rows))
            arguments.out.write_text(table(rows, arguments))
            print(f"{method} seed {seed}: {rows[-1]['seconds']:.0f} s", flush=True)
    arguments.out.write_text(table(rows, arguments))
    print(table(rows, arguments))


if __name__ == "__main__":
    main()
