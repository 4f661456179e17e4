"""Our own C kernels: found, compiled, loaded and shared out to threads. What they compute stands in the C files."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch

from quantlab.kernels.native.build import WITHOUT_AMX, BuildError, built

SWITCH = "QUANTLAB_NATIVE"
"""Environment variable: 0 turns our own kernels off, avx512 leaves out AMX."""
LEVELS = {1: "AVX512-VNNI", 2: "AMX"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library.

    Attributes:
        code: Its functions, by name; whoever calls one declares its arguments.
        instructions: What it multiplies integers with: one of `LEVELS`.
    """

    code: ctypes.CDLL
    instructions: str


def library() -> Library | None:
    """The library of this machine, compiled at the first call; None where there is none (`why_absent`)."""
    return _found(os.environ.get(SWITCH, ""))[0]


def why_absent() -> str:
    """Why there is no library, in one sentence; empty where there is one."""
    return _found(os.environ.get(SWITCH, ""))[1]


@cache
def _found(switch: str) -> tuple[Library | None, str]:
    """The library, or the reason; looked for once for each setting of the switch."""
    if switch == "0":
        return None, f"{SWITCH}=0 turns it off"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return None, f"it is written for Linux on x86-64, this is {platform.system()} on {platform.machine()}"
    try:
        return loaded(amx=switch != "avx512"), ""
    except BuildError as error:
        _log.info("no native kernels: %s", error)
        return None, str(error)


def loaded(*, amx: bool = True) -> Library:
    """Compile if need be, and load.

    Args:
        amx: Use AMX where the CPU and the system have it.

    Raises:
        BuildError: It cannot be compiled or loaded, or the CPU lacks what it needs.
    """
    path = built(() if amx else WITHOUT_AMX)
    try:
        code = ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"the compiled library cannot be loaded ({error})") from error
    level = int(code.native_init())
    if level == -1:
        return loaded(amx=False)
    if level not in LEVELS:
        raise BuildError("this CPU has no AVX512-VNNI")
    return Library(code, LEVELS[level])


def share(work: Callable[[int, int], int], count: int, *, step: int = 1) -> list[int]:
    """Cut ``range(count)`` at multiples of ``step`` into as many parts as torch has threads, and run them at once.

    Args:
        work: Takes the first index and the one past the last; C code called inside lets go of the interpreter.
        count: Of the things to work on.
        step: Parts begin at multiples of this.

    Returns:
        What ``work`` answered for each part, in order.
    """
    steps = -(-count // step)
    parts = max(1, min(torch.get_num_threads(), steps))
    cuts = [min(count, steps * index // parts * step) for index in range(parts + 1)]
    if parts == 1:
        return [work(0, count)]
    waiting = [_pool(os.getpid()).submit(work, *ends) for ends in pairwise(cuts[1:])]
    first = work(cuts[0], cuts[1])
    return [first, *(future.result() for future in waiting)]


@cache
def _pool(_process: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a parent do not live on in its child."""
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="quantlab-native")
