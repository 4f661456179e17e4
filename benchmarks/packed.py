"""Measures a packed checkpoint of the released VGGT's shapes, tracker included: bytes, seconds to load, memory.

Codes and scales are random and made layer by layer, so that no full-precision weight is ever there. Each checkpoint
is loaded in a fresh process that has imported quantlab and nothing of it has been run: its files are in the page cache
then, because they were just written. Memory is the increase in /proc/self/smaps_rollup.

    python benchmarks/packed.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "packed.md"
CASES = {"W4 per channel": 0, "W4 groups of 128": 128}
RUNS = {"reference": 3, "auto": 1}
"""Fresh processes for each kernel; "auto" also tries every kernel of the machine on every kind of layer."""
ROLLUP = Path("/proc/self/smaps_rollup")


def random_network(group: int) -> object:
    """The released VGGT with every layer in 4 random bits and everything else small random numbers."""
    import torch
    from torch import nn

    from quantlab.engine.scope import scope_layers
    from quantlab.models.networks import build_model
    from quantlab.models.places import Places
    from quantlab.models.structure import describe

    torch.manual_seed(0)
    network = build_model("vggt", device="meta")
    places, structure = Places(network), describe(network)
    for name in scope_layers("all", structure):
        layer = places.original(name)
        if layer.bias is not None:
            layer.bias = nn.Parameter(torch.randn(layer.bias.shape) * 0.02, requires_grad=False)
        places.put(name, random_layer(layer, group if structure.layers[name].operator == "linear" else 0))
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                module.register_parameter(name, nn.Parameter(torch.randn(parameter.shape) * 0.02))
    return network.eval()


def random_layer(layer: object, group: int) -> object:
    """A quantized layer of the shape of ``layer`` that holds random codes."""
    import torch

    from quantlab.kernels.activations import DynamicActivations
    from quantlab.numerics.formats import QuantSpec, scale_shape
    from quantlab.numerics.ranges import Range
    from quantlab.packed.layers import assemble, encode, rows_shape

    rows = rows_shape(layer)
    divides = group and rows[1] % group == 0
    spec = QuantSpec(4, granularity="group" if divides else "channel", group_size=group if divides else 0)
    codes = torch.randint(0, 256, (rows[0], -(-rows[1] // 2)), dtype=torch.uint8)
    if rows[1] % 2:
        codes[:, -1] &= 0x0F
    chosen = Range(torch.full(scale_shape(rows, spec), 0.02 / 7), None)
    record = {"spec": encode(spec), "parts": {}, "dtype": "float32", "width": rows[1]}
    made = assemble(record, {"codes": codes, "scale": chosen.scale}, layer, held=True)
    if isinstance(layer, torch.nn.Linear):
        made.activations = DynamicActivations(QuantSpec(8, granularity="token"), "layer").eval()
    return made


def write(folder: Path, group: int) -> dict[str, float]:
    """Write one checkpoint; seconds and bytes."""
    from quantlab.models.config import VGGTConfig
    from quantlab.packed.write import Source, write_packed

    network = random_network(group)
    source = Source("vggt", VGGTConfig().to_dict(), {"model": {"name": "random"}, "recipe": {}}, bits=4)
    begun = time.perf_counter()
    written = write_packed(network, folder, source)
    return {"bytes": written.bytes, "write_seconds": time.perf_counter() - begun, "layers": written.layers}


def memory() -> dict[str, int]:
    """Anonymous and file-backed resident bytes of this process."""
    table = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in ROLLUP.read_text(encoding="ascii").splitlines()
        if line.endswith("kB")
    }
    return {"anonymous": table["Anonymous"], "file": table["Rss"] - table["Anonymous"]}


def load(folder: Path, kernel: str) -> dict[str, float]:
    """Load it in this process."""
    import quantlab as ql

    load_model = ql.load_model  # imported here, so that it is not counted
    before, begun, spent = memory(), time.perf_counter(), time.process_time()
    model = load_model(folder, kernel=kernel)
    seconds, after = time.perf_counter() - begun, memory()
    worked = time.process_time() - spent
    added = {kind: after[kind] - before[kind] for kind in after}
    return {"seconds": seconds, "cpu": worked, **added, "kernels": dict(model.execution.kernels)}


def fresh(*arguments: str) -> dict[str, float]:
    """A measurement in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rows(folder: Path) -> list[str]:
    """A line of the table for each case and kernel."""
    lines = []
    for name, group in CASES.items():
        written = fresh("--write", str(folder / "packed"), "--group", str(group))
        size = written["bytes"]
        for kernel, count in RUNS.items():
            runs = [fresh("--load", str(folder / "packed"), "--kernel", kernel) for _ in range(count)]
            run = sorted(runs, key=lambda run: run["seconds"])[count // 2]
            anonymous = f"{run['anonymous'] / 1e6:.0f} ({run['anonymous'] / size:.2f})"
            lines.append(
                f"| {name} | {size / 1e6:.0f} | {kernel} | {run['seconds']:.2f} | {run['cpu']:.2f} | {anonymous} "
                f"| {run['file'] / 1e6:.0f} | {run['kernels']} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
        shutil.rmtree(folder / "packed")
    return lines


def report(lines: list[str]) -> str:
    """The file of results."""
    import torch

    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return "\n".join(
        [
            "# Packed checkpoints of the released VGGT's shapes (1257 M parameters, tracker included), scope all",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, {model}, {torch.get_num_threads()} threads, torch {torch.__version__}.",
            "Random weights; fresh processes, the median of three with the reference kernel; files in the page cache.",
            f"The machine was shared: load {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores. CPU seconds tell more.",
            "`python benchmarks/packed.py`",
            "",
            "| recipe | MB on disk | kernel | s to load | CPU s | anonymous MB (of the size) | mapped MB | layers |",
            "|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Write, load and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where the checkpoints are written for a while")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--group", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--kernel", default="reference", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        print(json.dumps(write(given.write, given.group)))
    elif given.load:
        print(json.dumps(load(given.load, given.kernel)))
    else:
        with tempfile.TemporaryDirectory(dir=given.out) as folder:
            text = report(rows(Path(folder)))
        RESULTS.write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
