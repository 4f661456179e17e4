"""The part of a lab that is asked how fast its recipe runs. How that is measured is in `quantlab.engine.measure`."""

from __future__ import annotations

from typing import cast

from quantlab.engine.measure import measure
from quantlab.engine.measurement import Measurement
from quantlab.engine.recipe import Recipe
from quantlab.engine.subject import scene_label
from quantlab.engine.workbench import Workbench
from quantlab.jobs import Job, between


class Measuring(Workbench):
    """A workbench whose quantized network can be executed and timed."""

    def measure(
        self,
        scene: int = 0,
        *,
        recipe: Recipe | None = None,
        compute: str = "float32",
        again: bool = False,
        job: Job | None = None,
    ) -> Measurement:
        """Time and memory of a scene under the recipe, executed by real kernels on this machine; measured once.

        Args:
            scene: Which of the evaluation scenes.
            recipe: Another recipe than the one in force, which stays.
            compute: "bfloat16" for everything between the quantized layers; ``errors`` say what that costs.
            again: Anew, whatever was measured before.
            job: Follows and stops it.

        Raises:
            SceneError, RecipeError: There is no such scene or ``compute``.
        """
        recipe, shown = self._asked(recipe), self._scene(scene)
        key = ("measurement", recipe, scene, compute)
        with self._work:
            if again or key not in self._recent:
                self._apply(recipe, between(job, 0.0, 0.4))
                name, job = scene_label(shown, scene), between(job, 0.4, 1.0)
                found = measure(self._subject, self._quantizer, shown, name, compute=compute, job=job)
                self._keep(key, found)
            return cast("Measurement", self._recent[key])

    def measured(self, scene: int = 0, *, recipe: Recipe | None = None) -> Measurement | None:
        """What `measure` found under the recipe, of late; None where nothing was. Runs nothing."""
        with self._work:
            return self._recent.get(("measurement", recipe or self.recipe, scene, "float32"))
