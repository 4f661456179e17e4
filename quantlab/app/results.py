"""What was measured under a recipe, and what ages when the recipe changes. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.calibration.picked import Picked
    from quantlab.calibration.profile import Profile
    from quantlab.engine.blame_record import Blame
    from quantlab.engine.comparison import Comparison
    from quantlab.engine.diagnosis import Diagnosis
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.measurement import Measurement
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.search_record import Search
    from quantlab.engine.selection_settings import Selection
    from quantlab.engine.views import LayerView


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured under one recipe, and under the recipe before it (``former``). None: not measured.

    ``states`` are the clouds of a few recipes, whichever holds now.
    """

    profile: Profile | None = None
    diagnosis: Diagnosis | None = None
    evaluation: Evaluation | None = None
    measurement: Measurement | None = None
    comparison: Comparison | None = None
    layers: Mapping[str, LayerView] = field(default_factory=dict)
    pool: Mapping[tuple[Selection, int], Picked] = field(default_factory=dict)
    states: Mapping[Recipe, Comparison] = field(default_factory=dict)
    search: Search | None = None
    blame: Blame | None = None
    former: Results | None = None

    def aged(self) -> Results:
        """The results after a change of the recipe: profile and pool still hold; the rest is what was before."""
        kept = replace(self, former=None, blame=self.blame or (self.former.blame if self.former else None))
        known = self.former is not None and self.comparison is None and self.evaluation is None
        former = self.former if known else kept
        return Results(
            profile=self.profile, pool=self.pool, states=self.states, search=self.search, former=former
        )

    @property
    def errors(self) -> dict[str, float]:
        """Relative output error of the layers looked at."""
        return {
            name: float(view.output_error)
            for name, view in self.layers.items()
            if view.output_error is not None
        }
