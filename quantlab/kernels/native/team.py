"""The threads that torch computes with, lent to our own C code: two pools would fight for the cores. It cuts no work.

An OpenMP thread without work spins for a while before it sleeps: a thread of another pool gets half of its core.
Torch's wheels for Linux bring GNU's OpenMP, whose entry points are called here.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

_HOME = os.getpid()
_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def run_on_team(run: Callable[[int], None], parts: int) -> bool:
    """Call ``run(0)`` to ``run(parts - 1)``, each on a thread of torch's, and wait for all.

    Args:
        run: What it raises is raised here, once all have ended.
        parts: As many as torch has threads, or fewer.

    Returns:
        Whether there was such a team: not with another OpenMP than GNU's, nor in a forked process, where it hangs.
    """
    openmp = _openmp()
    if openmp is None or os.getpid() != _HOME:
        return False
    failed: list[BaseException] = []

    def body(_: int | None) -> None:
        for index in range(openmp.omp_get_thread_num(), parts, openmp.omp_get_num_threads()):
            try:
                run(index)
            except BaseException as error:  # noqa: BLE001 - C cannot pass it on
                failed.append(error)

    # A team of another size than torch's would end threads, and begin them again at torch's next turn.
    openmp.GOMP_parallel(_Body(body), None, ctypes.c_uint(torch.get_num_threads()), ctypes.c_uint(0))
    if failed:
        raise failed[0]
    return True


@cache
def _openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP as torch has loaded it, which may not be the only one of the process."""
    folder = Path(torch.__file__).parent
    homes = {folder / "lib", folder.with_name("torch.libs")}
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    for path in sorted({Path(line.split(maxsplit=5)[-1]) for line in lines if "libgomp" in line}):
        if path.parent in homes:
            return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    return None
