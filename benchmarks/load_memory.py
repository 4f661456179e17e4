"""Measures the memory that loading a released-size VGGT takes; it writes a random weight file and removes it again.

The anonymous increase is that over a process that has only imported quantlab (RssAnon in /proc/self/status), taken
in a fresh process; the largest value while loading is sampled every 5 ms by a thread. Mapped pages are counted apart.

    python benchmarks/load_memory.py [--keep FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CHUNK = 1 << 22


def write_random(path: Path, seed: int = 0) -> None:
    """A safetensors file with the names and shapes of the released VGGT and small random float32 weights."""
    import struct

    import torch

    from quantlab.models.zoo import build_model

    state = build_model("vggt", device="meta").state_dict()
    header: dict[str, object] = {}
    offset = 0
    for name, tensor in state.items():
        size = 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    # One block of noise serves all tensors: what is measured does not depend on the values.
    noise = torch.randn(CHUNK, generator=torch.Generator().manual_seed(seed)) * 0.02
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for name, tensor in state.items():
            _write_tensor(file, name, tensor.numel(), noise)


def _write_tensor(file: object, name: str, count: int, noise: object) -> None:
    import torch

    is_gain = name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "norm_context.weight"))
    values = torch.ones(min(count, CHUNK)) if is_gain or name.endswith("gamma") else noise
    for start in range(0, count, CHUNK):
        part = values[: min(CHUNK, count - start)]  # type: ignore[index]
        file.write(part.numpy().tobytes())  # type: ignore[attr-defined]


def resident(kind: str) -> int:
    """Bytes of "RssAnon" or "RssFile" of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"this system does not report {kind}")


def measure(path: Path) -> dict[str, float]:
    """Load ``path`` in this process and report gigabytes and seconds."""
    import torch  # noqa: F401  (part of the import that is not counted)

    import quantlab
    from quantlab.models import zoo

    base, peak, done = resident("RssAnon"), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident("RssAnon"))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model = zoo.load_model(path)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    parameters = sum(p.numel() for p in model.network.parameters())
    return {
        "parameters": parameters,
        "weights_gb": 4 * parameters / 1e9,
        "seconds": round(seconds, 2),
        "peak_anonymous_increase_gb": round((peak - base) / 1e9, 3),
        "anonymous_increase_gb": round((resident("RssAnon") - base) / 1e9, 3),
        "mapped_gb": round(resident("RssFile") / 1e9, 3),
        "quantlab": quantlab.__version__,
    }


def main() -> None:
    """Write the file, measure in a fresh process, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="write the random weights here and keep them")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "random.safetensors"
        write_random(path)
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()
