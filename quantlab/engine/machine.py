"""What machine this is, in a few words that hold no name of host or user. It measures nothing."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.processor() or "a CPU of unknown make"
