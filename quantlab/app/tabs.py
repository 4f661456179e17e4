"""The tabs of the left side, in their order: name, what it is called, and the panels drawn only while it is open."""

from __future__ import annotations

from typing import NamedTuple


class Tab(NamedTuple):
    """One tab."""

    label: str
    panels: tuple[str, ...] = ()


TABS = {
    "bench": Tab("Bench"),
    "decide": Tab("Decide", ("decide",)),
    "modules": Tab("Modules", ("modules",)),
    "methods": Tab("Methods", ("methods",)),
    "calibration": Tab("Calibration", ("calibration",)),
    "recipe": Tab("Recipe & export", ("recipe",)),
    "notes": Tab("Notes"),
}
ON_THEIR_TAB = {panel: name for name, tab in TABS.items() for panel in tab.panels}
"""Panel to the tab that must be open for it to be drawn."""
