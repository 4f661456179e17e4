"""What a speed was measured on: processor, its instructions, cores, versions. It measures nothing."""

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

CPUINFO = Path("/proc/cpuinfo")
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


def slug(machine: Mapping[str, Any]) -> str:
    """A machine's name as a file name: its processor, and the widest instructions it multiplies integers with."""
    named = re.sub(r"\((?:R|TM)\)|\bCPU\b|\bprocessor\b", " ", str(machine["processor"]), flags=re.IGNORECASE)
    parts = [named, *machine["instructions"][:1]]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-") or "machine"


def made(command: str, threads: int) -> dict[str, Any]:
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
        **processor(),
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
