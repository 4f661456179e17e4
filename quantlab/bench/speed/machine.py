"""What a speed was measured on: processor or GPU, what it can do, cores, versions. It measures nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quantlab import __version__
from quantlab.bench.speed.plan import CPU

CPUINFO = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")
FLAGS = {
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX bfloat16",
    "avx512_vnni": "AVX512 VNNI",
    "avx512_bf16": "AVX512 BF16",
    "avx512f": "AVX512",
    "avx_vnni": "AVX VNNI",
    "avx2": "AVX2",
    "asimddp": "dot product",
    "i8mm": "int8 matrix product",
    "bf16": "bfloat16",
    "sve": "SVE",
}
"""Names of the system to names for a person, of the instructions that decide how fast a product of integers is."""
PACKAGES = ("torch", "torchao", "onnxruntime", "openvino", "nncf", "zentorch")


def processor(text: str | None = None) -> dict[str, Any]:
    """Name of the processor and the instructions that matter, from the text of /proc/cpuinfo."""
    if text is None:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    words = set(listed[1].split()) if listed else set()
    return {
        "processor": name[1].strip() if name else platform.processor() or platform.machine(),
        "instructions": [person for flag, person in FLAGS.items() if flag in words],
    }


def graphics(text: str | None = None) -> dict[str, Any]:
    """The same of the GPU that torch takes: capability, driver, CUDA; from the driver's own text about itself.

    Without an NVIDIA driver that tells, its version is left out.
    """
    import torch

    if text is None:
        text = DRIVER.read_text(encoding="utf-8", errors="replace") if DRIVER.exists() else ""
    found = torch.cuda.get_device_properties(0)
    driver = re.search(r"^NVRM version:.*?(\d+\.[\d.]+)", text, re.MULTILINE)
    about = [f"compute capability {found.major}.{found.minor}"]
    about += [f"driver {driver[1]}"] if driver else []
    about += [f"CUDA {torch.version.cuda}"] if torch.version.cuda else []
    return {"processor": found.name, "instructions": about, "gpu": True, "host": processor()["processor"]}


def described(device: str) -> dict[str, Any]:
    """What does the work: the processor, or the GPU."""
    return processor() if device == CPU else graphics()


def native_lack() -> str:
    """What our own C code lacks of what this machine could run, in a word; empty where nothing."""
    from quantlab.kernels import native

    return "absent" if native.library() is None else os.environ.get(native.SWITCH, "")


def slug(machine: Mapping[str, Any]) -> str:
    """A machine's name as a file name: its processor, and the widest instructions it multiplies integers with.

    A GPU's has all that is told of it: capability, driver and CUDA.
    """
    named = re.sub(r"\((?:R|TM)\)|\bCPU\b|\bprocessor\b", " ", str(machine["processor"]), flags=re.IGNORECASE)
    parts = [named, *(machine["instructions"] if "gpu" in machine else machine["instructions"][:1])]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-") or "machine"


def made(command: str, threads: int, device: str = CPU) -> dict[str, Any]:
    """When, on what, with what and by which command something is measured now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "threads": threads,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": {"quantlab": __version__, **versions()},
        **described(device),
    }


def versions() -> dict[str, str]:
    """Versions of torch and of the peers that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
