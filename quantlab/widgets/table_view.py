"""The table of all layers as a view of the lab: what it measures, shows and changes. Its rows are made in rows.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab.widgets.pane import Pane
from quantlab.widgets.rows import changed, columns, layer_rows
from quantlab.widgets.views import Shown

if TYPE_CHECKING:
    from quantlab.calibration.profile import Profile
    from quantlab.engine.diagnosis import Diagnosis
    from quantlab.engine.recipe import Recipe
    from quantlab.jobs import Job
    from quantlab.widgets.desk import Desk


class TableView(Shown):
    """All layers with their settings and numbers; a cell that is changed is one step of the recipe."""

    rank = 4
    follows_selection = True

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, Pane(["table"], on_event=self.happened))
        self._profile: Profile | None = None
        self._diagnosed: tuple[Recipe, Diagnosis] | None = None
        self._drawn: object = None
        self._turn = 0

    def settle(self) -> None:
        """Show the settings now; numbers of another recipe are not shown beside them."""
        recipe, lab = self.desk.lab.recipe, self.desk.lab
        diagnosis = self._diagnosed[1] if self._diagnosed and self._diagnosed[0] == recipe else None
        drawn = (recipe, self._profile, diagnosis)
        if drawn != self._drawn:
            self._drawn = drawn
            rows = layer_rows(lab, self._profile, diagnosis)
            self.pane.show("table", {"columns": columns(), "rows": rows, "turn": self._turn})
        self.pane.show("selected", self.desk.selected)

    def update(self, job: Job) -> None:
        """Measure tails once and the TRE of the recipe in force."""
        lab = self.desk.lab
        recipe = lab.recipe
        self._profile = lab.profile(job=job)
        self._diagnosed = (recipe, lab.diagnose(job=job))
        self.settle()

    def happened(self, event: Mapping[str, Any]) -> None:
        """A row was clicked or a cell changed; whatever else a page sends is ignored."""
        if event.get("type") != "set":
            self.clicked(event)
            return
        lab = self.desk.lab

        def change() -> None:
            lab.recipe = changed(lab.recipe, lab.structure, event)

        trouble = self.desk.edit(change)
        if trouble:
            self._drawn, self._turn = None, self._turn + 1  # the cell in the page says what was refused
            self.settle()
        self.tell(error=trouble)
