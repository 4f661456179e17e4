"""Calibrates a VGGT of released size block by block, kills it half way, resumes it. It asserts nothing.

    python benchmarks/calibrate_large.py [--blocks N] [--model FILE] [--write]

SmoothQuant and GPTQ, W4A8, on all Linears of frame and global blocks, from 2 scenes of 2 rendered pictures of
518 x 392, with random weights of the released names and shapes in float32 (made in a temporary folder, 5 GB, and
removed again; time and memory do not depend on the values). ``--blocks N`` quantizes the first N frame and the first N
global blocks.

Two processes, one after the other: the first is killed with SIGKILL when half of the blocks are finished, the second
goes on. Memory is anonymous pages over what each process had after its imports, sampled every 5 ms; weights are mapped
from the file, and the system may drop their pages at any time. What is stored of the quantized layers is the packed
result, of which a process also holds what it has finished.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from load_memory import write_random

RESULT = Path(__file__).parent / "results" / "calibrate_large.md"
BLOCKS = 24
ALLOWED = 2.5e9
"""Bytes of memory over the packed result."""


def quantize(model: Path, out: Path, *, blocks: int, threads: int) -> None:
    """In a process of its own: carry the recipe out into ``out``, one JSON record a block and one at the end."""
    import torch

    import quantlab
    from quantlab import Recipe
    from quantlab.commands.quantize import write
    from quantlab.engine.stages_folder import Finished, Identity, StageFolder, digest_of
    from quantlab.engine.watch import watched
    from quantlab.lab import Lab
    from quantlab.scenes.synthetic import rooms

    torch.set_num_threads(threads)
    recipe = Recipe(
        name="smoothquant + gptq",
        defaults={"weights": 4, "activations": 8, "smoothing": 0.5, "rounding": "gptq"},
    )
    for index in range(blocks, BLOCKS):
        recipe = recipe.set(f"*.frame_blocks.{index}", keep=True).set(f"*.global_blocks.{index}", keep=True)

    def tell(stage: Finished) -> None:
        record = {"stage": stage.stage, "seconds": round(stage.seconds, 2), "bytes": stage.bytes}
        print(json.dumps({**record, "known": stage.known, "peak": memory.added}), flush=True)

    begun = time.perf_counter()
    with watched() as memory:
        scenes = rooms(2, views=2, size=(392, 518), split="calibration")
        lab = Lab(quantlab.load_model(model), calibration=scenes, evaluation=scenes[:1], recipe=recipe)
        identity = Identity(quantlab.__version__, model.name, "float32", recipe.to_dict(), digest_of(scenes))
        packed = write(lab, StageFolder(out, identity, recipe, told=tell))
    seconds = time.perf_counter() - begun
    record = {"packed": packed, "peak": memory.added, "seconds": round(seconds, 1)}
    print(json.dumps(record), flush=True)


def measure(model: Path, out: Path, *, blocks: int, threads: int) -> list[dict[str, Any]]:
    """Both processes; the records of each with the process they come from."""
    records: list[dict[str, Any]] = []
    for process, killed in ((1, True), (2, False)):
        for record in _records(model, out, blocks, threads, stop_after=blocks if killed else None):
            records.append({"process": process, **record})
            print(json.dumps(records[-1]), flush=True)
    return records


def _records(
    model: Path, out: Path, blocks: int, threads: int, *, stop_after: int | None
) -> Iterator[dict[str, Any]]:
    """What a process prints; it is killed behind its ``stop_after``-th block."""
    command = [sys.executable, __file__, "--model", str(model), "--out", str(out)]
    command += ["--blocks", str(blocks), "--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for count, line in enumerate(child.stdout or (), 1):
            yield json.loads(line)
            if count == stop_after:
                child.send_signal(signal.SIGKILL)
                break
    if stop_after is not None:
        yield {"killed_after": stop_after, "status": child.returncode}
    elif child.returncode:
        raise SystemExit(child.returncode)


def report(records: list[dict[str, Any]], *, blocks: int, threads: int) -> str:
    """The result as Markdown."""
    stages = [record for record in records if "stage" in record and not record["known"]]
    last = records[-1]
    killed = next(record for record in records if "killed_after" in record)
    by_kind = {
        kind: [record["seconds"] for record in stages[1:] if f"{kind}_blocks" in record["stage"]]
        for kind in ("frame", "global")
    }
    middle = {kind: sorted(values)[len(values) // 2] if values else 0.0 for kind, values in by_kind.items()}
    resumed = sum(record.get("known", False) for record in records)
    peak = max(record["peak"] for record in records if record.get("peak"))
    command = f"python benchmarks/calibrate_large.py --blocks {blocks} --threads {threads} --write"
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {threads} threads"
    lines = f"""# SmoothQuant + GPTQ, W4A8, on a VGGT of released size, block by block

`{command}`, {machine}, float32 weights mapped from a file.

* Quantized: {8 * blocks} Linears of {2 * blocks} blocks, on 2 scenes of 2 pictures of 518 x 392.
* Packed result {last["packed"] / 1e6:.0f} MB. Largest anonymous memory of a process {peak / 1e9:.2f} GB, which is
  {(peak - last["packed"]) / 1e9:.2f} GB above it (allowed: {ALLOWED / 1e9:.1f} GB).
* A frame block takes {middle["frame"]:.1f} s and a global block {middle["global"]:.1f} s (medians); the first one
  {stages[0]["seconds"]:.0f} s with the image encoder before it.
* Killed with SIGKILL behind block {killed["killed_after"]}; the second process found {resumed} blocks, ran through
  them, and took {last["seconds"]:.0f} s altogether.

| block | seconds |
|---|---|
"""
    return lines + "".join(f"| {record['stage']} | {record['seconds']:.1f} |\n" for record in stages)


def main() -> None:
    """Make the weights where there are none, measure, print; write the result where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--blocks", type=int, default=BLOCKS, help="how many frame and how many global blocks"
    )
    parser.add_argument(
        "--model", type=Path, help="random weights made before (benchmarks/load_memory.py --keep)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.out is not None:
        quantize(chosen.model, chosen.out, blocks=chosen.blocks, threads=chosen.threads)
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = chosen.model
        if model is None:
            model = folder / "random.safetensors"
            write_random(model)
        records = measure(model, folder / "out", blocks=chosen.blocks, threads=chosen.threads)
    text = report(records, blocks=chosen.blocks, threads=chosen.threads)
    print(text)
    if chosen.write:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
