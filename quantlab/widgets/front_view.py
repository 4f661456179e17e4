"""The front of a search as a view of the lab: a click on a point loads its recipe. It searches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.figures.pareto import drift, pareto
from quantlab.figures.readable import short
from quantlab.widgets.pane import Pane, figure_data
from quantlab.widgets.views import Shown

if TYPE_CHECKING:
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.search_record import Candidate, Search
    from quantlab.jobs import Job
    from quantlab.widgets.desk import Desk

FIGURE_PIXELS = 320


class FrontView(Shown):
    """Size against drift of every recipe that a search considered.

    Args:
        desk: Of the lab.
        search: From ``lab.search()``.
    """

    rank = 0
    follows_selection = False

    def __init__(self, desk: Desk, search: Search) -> None:
        super().__init__(desk, Pane(["figure", "words"], on_event=self.happened))
        self._search = search

    def settle(self) -> None:
        """Draw the front, and mark the recipe in force."""
        search, recipe = self._search, self.desk.lab.recipe
        recipes = [candidate.recipe for candidate in search.distinct]
        now = recipes.index(recipe) if recipe in recipes else None
        figure = pareto(search, now=now, budget=search.budget, theme=figures.PAGE)
        self.pane.show("figure", figure_data(figure, FIGURE_PIXELS, "front"))
        force = (
            "The recipe in force is none of these."
            if now is None
            else f"In force: {_words(search.distinct[now])}."
        )
        chosen = f"Chosen within {search.budget / 1e6:.2f} MB: {_words(search.chosen)}."
        self.pane.show(
            "words", {"heading": "", "sentences": [force, chosen, "A click on a point loads its recipe."]}
        )

    def update(self, job: Job) -> None:
        """There is nothing to measure."""

    def happened(self, event: Mapping[str, Any]) -> None:
        """A point was clicked; whatever else a page sends is ignored."""
        place = event.get("name")
        if event.get("type") != "select" or not isinstance(place, str) or not place.isdecimal():
            return
        found = self._search.distinct[int(place) :][:1] if len(place) < 9 else ()
        if found:
            self.tell(error=self.desk.edit(lambda: self._load(found[0].recipe)))

    def _load(self, recipe: Recipe) -> None:
        self.desk.lab.recipe = recipe


def _words(candidate: Candidate) -> str:
    label = f"{candidate.label} everywhere, " if candidate.kind == "uniform" else ""
    kind = "predicted" if candidate.verified is None else "measured"
    return f"{label}{candidate.bytes / 1e6:.2f} MB, drift {short(100 * drift(candidate))} % ({kind})"
