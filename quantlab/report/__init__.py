"""The offline report: one HTML file that a colleague opens by double click. Calling this package writes one.

>>> import quantlab as ql
>>> ql.report(lab, "quarot.html", note="Rotation alone, four bits.")                        # doctest: +SKIP
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from quantlab.jobs import Job
from quantlab.report.page import POINTS, render, write

if TYPE_CHECKING:
    from quantlab.lab import Lab

__all__ = ["render", "write"]


class _Report(ModuleType):
    """`ql.report` is this package and, as a person types it, the function that writes a report: both at once."""

    def __call__(
        self,
        lab: Lab,
        path: str | Path,
        *,
        scene: int = 0,
        points: int = POINTS,
        note: str = "",
        icp: bool = False,
        measure: bool = False,
        job: Job | None = None,
    ) -> Path:
        """See `write`."""
        chosen: dict[str, Any] = {"scene": scene, "points": points, "note": note}
        chosen |= {"icp": icp, "measure": measure}
        return write(lab, path, job=job, **chosen)


sys.modules[__name__].__class__ = _Report
