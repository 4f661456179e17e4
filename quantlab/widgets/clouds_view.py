"""Both clouds of a scene, their numbers, and who is to blame for a damaged region, as one view of the lab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab.errors import NumericError, SceneError
from quantlab.views.clouds import pair_of_clouds
from quantlab.views.numbers import numbers
from quantlab.widgets.blame import Suspects
from quantlab.widgets.pane import Pane
from quantlab.widgets.views import Shown

if TYPE_CHECKING:
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.recipe import Recipe
    from quantlab.jobs import Job
    from quantlab.widgets.desk import Desk

CLOUDS_PIXELS = 400
MOST_POINTS = 400_000
"""A cloud; beyond it an even sample travels to the page."""


class ComparePane(Shown):
    """Both clouds of a scene under one camera, the suspects of a region drawn in them, and the numbers."""

    rank = 2
    follows_selection = False

    def __init__(self, desk: Desk, scene: int = 0) -> None:
        super().__init__(desk, Pane(["clouds", "suspects", "numbers"], on_event=self.happened))
        self.suspects = Suspects(desk, self, scene)
        self._scene = scene
        self._now: tuple[Recipe, Evaluation] | None = None
        self._former: Evaluation | None = None
        self.pane.show("clouds", {"height": CLOUDS_PIXELS, "message": "Reconstructing the scene …"})

    def settle(self) -> None:
        """Mark which suspects the recipe has restored."""
        self.suspects.show()

    def happened(self, event: Mapping[str, Any]) -> None:
        """A region was drawn, or a suspect was clicked; whatever else a page sends is ignored."""
        if not self.suspects.happened(event):
            self.clicked(event)

    def update(self, job: Job) -> None:
        """Reconstruct the scene at full precision and under the recipe, and score it."""
        lab = self.desk.lab
        recipe = lab.recipe
        try:
            comparison = lab.compare(scene=self._scene, job=job)
        except (SceneError, NumericError) as error:  # no reconstruction, or a collapsed one: it has numbers
            self.pane.show("clouds", {"height": CLOUDS_PIXELS, "message": str(error)})
        else:
            payload = pair_of_clouds(
                comparison,
                comparison.left,
                comparison.right,
                scene=f"scene {self._scene}",
                limit=MOST_POINTS,
            )
            self.pane.show("clouds", {"height": CLOUDS_PIXELS, "message": ""}, [payload])
        evaluation = lab.evaluate(job=job)
        if self._now is not None and self._now[0] != recipe:
            self._former = self._now[1]
        self._now = (recipe, evaluation)
        sizes = (evaluation.packed_bytes, evaluation.full_bytes)
        timed = (lab.measured(self._scene), None)
        tiles = numbers(evaluation, self._former, sizes=sizes, stale=False, measured=timed)
        self.pane.show("numbers", tiles["items"])
