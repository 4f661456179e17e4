"""Our own C kernels: found, compiled, loaded and shared out to threads. What they compute stands in the C files."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch

from quantlab.errors import DeviceError, MissingLibraryError
from quantlab.kernels.native.build import WITHOUT_AMX, BuildError, built
from quantlab.kernels.native.team import run_on_team

SWITCH = "QUANTLAB_NATIVE"
"""Environment variable: 0 turns our own kernels off, avx512 leaves out AMX."""
LEVELS = {1: "AVX512-VNNI", 2: "AMX"}
SIGNATURES = {"rows": "pll", "product": "pllll", "attention": "pll", "attention_level": ""}
"""What the functions in C take: a pointer (p) or int64 (l); each answers an int64."""
_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_int64}
OUT_OF_MEMORY = -2
"""What a function in C answers where it was given no scratch memory."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library.

    Attributes:
        code: Its functions, by name.
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
    for name, kinds in SIGNATURES.items():
        entry = getattr(code, name)
        entry.argtypes, entry.restype = [_TYPES[kind] for kind in kinds], ctypes.c_int64
    return Library(code, LEVELS[level])


def function(name: str) -> Any:
    """One of `SIGNATURES`, of the library of this machine.

    Raises:
        MissingLibraryError: There is no library; `why_absent` says why.
    """
    found = library()
    if found is None:
        raise MissingLibraryError(
            f"there are no native kernels: {why_absent()}",
            remedy="Choose another kernel, or load the model again.",
        )
    return getattr(found.code, name)


def require_memory(answer: int) -> None:
    """Raise DeviceError where C answered that it was given no memory for its scratch space."""
    if answer == OUT_OF_MEMORY:
        raise DeviceError("there is no memory left for a native kernel", remedy="Close other programs.")


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
    answers = [0] * parts

    def run(index: int) -> None:
        answers[index] = work(cuts[index], cuts[index + 1])

    if run_on_team(run, parts):
        return answers
    waiting = [_pool(os.getpid()).submit(work, *ends) for ends in pairwise(cuts[1:])]
    try:
        first = work(cuts[0], cuts[1])
    finally:  # an interrupted caller lets go of memory that C still writes to
        wait(waiting)
    return [first, *(future.result() for future in waiting)]


@cache
def _pool(_process: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a parent do not live on in its child."""
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="quantlab-native")
