"""Where quantized layers are built: two networks on the same weights and the scenes to run. It builds nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from quantlab.engine.calibrate import Calibration
    from quantlab.engine.twin import Places
    from quantlab.models.structure import Structure


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """What everything that is fitted to calibration needs.

    Attributes:
        reference: In full precision.
        network: Its twin, in which quantized layers hang.
        places: Of the twin's modules.
        structure: Of both.
        calibration: The scenes.
    """

    reference: nn.Module
    network: nn.Module
    places: Places
    structure: Structure
    calibration: Calibration
