"""Who is to blame for a region: asks the lab in a thread, lists the suspects, and restores one on a click."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab.figures.readable import short
from quantlab.views.names import distinct_names
from quantlab.views.region import region_from

if TYPE_CHECKING:
    from quantlab.engine.blame_record import Blame, Suspect
    from quantlab.engine.recipe import Recipe
    from quantlab.jobs import Job
    from quantlab.widgets.desk import Desk
    from quantlab.widgets.views import Shown

SHOWN = 8
"""Suspects listed, all of them verified."""
MORE_BITS = 8
NOTHING: Mapping[str, Any] = {"title": "", "text": "", "rows": [], "selected": "", "busy": False}
MEANING = (
    "How much of the region's error goes when this layer alone is brought back to full precision."
    " ≈ is an estimate; without it the layer was tried."
)


class Suspects:
    """The list below the clouds.

    Args:
        desk: Of the lab.
        view: Whose pane has the slot "suspects".
        scene: Which of ``lab.evaluation``.
    """

    def __init__(self, desk: Desk, view: Shown, scene: int) -> None:
        self._desk, self._view, self._scene = desk, view, scene
        self._blamed: tuple[Recipe, Blame] | None = None
        self._busy = False
        self._asked = 0

    def happened(self, event: Mapping[str, Any]) -> bool:
        """Take what a person did in the pane; False: it was none of this list's."""
        kind, name = event.get("type"), event.get("name")
        if kind == "region":
            self._ask(event)
        elif kind == "stop":
            self._desk.stop()
        elif kind in ("restore", "bits"):
            if not isinstance(name, str) or name not in self._desk.lab.structure.layers:
                return False
            change = {"keep": True} if kind == "restore" else {"weights": MORE_BITS, "activations": MORE_BITS}
            self._view.tell(error=self._desk.edit(lambda: self._desk.lab.set(name, **change)))
        else:
            return False
        return True

    def show(self) -> None:
        """List the suspects, and which of them the recipe in force has restored."""
        if self._blamed is None:
            self._view.pane.show("suspects", dict(NOTHING))
            return
        recipe, blame = self._blamed
        labels = distinct_names(self._desk.lab.structure.layers.values())
        now = ", before your last change" if recipe != self._desk.lab.recipe else ""
        listed = {
            "title": f"Who is to blame: {short(100 * blame.damage)} % error in {blame.pixels} pixels{now}",
            "text": _meaning(blame),
            "rows": [self._row(suspect, blame, labels[suspect.name]) for suspect in blame.worst(SHOWN)],
            "selected": self._desk.selected,
            "busy": self._busy,
        }
        self._view.pane.show("suspects", listed)

    def _row(self, suspect: Suspect, blame: Blame, label: str) -> dict[str, Any]:
        settings = self._desk.lab.recipe.layer(suspect.name, self._desk.lab.structure)
        enough = settings.keep or min(settings.weights, settings.activations) >= MORE_BITS
        bits = f"Give its weights and inputs {MORE_BITS} bits"
        return {
            "name": suspect.name,
            "label": label,
            "value": _value(suspect, blame),
            "known": suspect.verified is not None,
            "help": _help(suspect, blame),
            "share": suspect.repair / blame.damage if blame.damage else 0.0,
            "actions": [
                _action("restore", "restore", "Keep this layer in full precision", done=settings.keep),
                _action("bits", f"{MORE_BITS} bits", bits, done=enough),
            ],
        }

    def _ask(self, event: Mapping[str, Any]) -> None:
        """Find the suspects of a region in a thread; a region that was wiped away has none."""
        self._asked += 1
        number = self._asked
        if not event.get("mask"):
            self._desk.stop()
            self._blamed, self._busy = None, False
            self.show()
            return
        self._desk.aside(self._view, lambda job: self._find(event, number, job))

    def _find(self, event: Mapping[str, Any], number: int, job: Job) -> None:
        lab, recipe = self._desk.lab, self._desk.lab.recipe

        def found(blame: Blame) -> None:
            if number == self._asked:
                self._blamed = (recipe, blame)
                self.show()

        left = lab.compare(self._scene, job=job).left
        region = region_from(event, left.points.shape[:3])
        if number != self._asked:
            return
        self._busy = True
        try:
            blame = lab.blame(region, self._scene, verify=SHOWN, found=found, job=job)
        finally:
            if number == self._asked:  # of a newer region the work goes on
                self._busy = False
                self.show()
        found(blame)


def _percent(repair: float, blame: Blame) -> str:
    return f"{short(100 * repair / blame.damage, 2)} %" if blame.damage else "0 %"


def _value(suspect: Suspect, blame: Blame) -> str:
    if suspect.verified is not None:
        return _percent(suspect.verified, blame)
    return "not tried" if suspect.estimate is None else f"≈ {_percent(suspect.estimate, blame)}"


def _help(suspect: Suspect, blame: Blame) -> str:
    """What stands behind a value, for the hover text."""
    if suspect.verified is None:
        return "estimated, not tried" if suspect.estimate is not None else "not tried yet"
    estimate = "" if suspect.estimate is None else f"; the estimate was {_percent(suspect.estimate, blame)}"
    worse = "; the region gets worse" if suspect.verified < 0 else ""
    luck = blame.luck is not None and not blame.certain(suspect) and not worse
    return f"tried{estimate}{worse}" + ("; rounding luck alone could make as much" if luck else "")


def _meaning(blame: Blame) -> str:
    if not blame.suspects:
        return "The recipe rounds no layer that reaches this region."
    luck = (
        "" if blame.luck is None else f" Below {_percent(blame.luck, blame)} it may be the luck of rounding."
    )
    together = ""
    if blame.together is not None:
        count, repair = blame.together
        together = f" The first {count} together: {_percent(repair, blame)}."
    return MEANING + luck + together


def _action(kind: str, label: str, text: str, *, done: bool) -> dict[str, Any]:
    return {"id": kind, "label": label, "help": text, "done": done}
