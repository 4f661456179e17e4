"""`quantlab search`: the bits of every layer within a size, as a recipe file and a table. It chooses nothing itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.commands.console import megabytes, say, stage, table
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, called, label, warn
from quantlab.storage import check_writable, write_json

if TYPE_CHECKING:
    from quantlab.engine.search_record import Candidate, Search
    from quantlab.models.model import Model

COLUMNS = ("", "size", "of 8 bits", "predicted", "measured", "layers at each number of bits")


@dataclass(frozen=True, slots=True)
class SearchChoice:
    """How to search; see `quantlab.Lab.search`."""

    budget: str | None = None
    bits: str = "2,3,4,6,8"
    mode: str = "alone"
    vary: str = "weights"
    scenes: int = 4
    tries: int = 24
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """The arguments of `Lab.search`.

        Raises:
            RecipeError: The bits are no whole numbers with commas between.
        """
        from quantlab.errors import RecipeError

        try:
            bits = tuple(int(part) for part in self.bits.split(","))
        except ValueError:
            raise RecipeError(
                f"{self.bits[:40]!r} are no bits", place="--bits", remedy="Write them as 2,3,4,6,8."
            ) from None
        budget = int(self.budget) if self.budget and self.budget.isdecimal() else self.budget
        fields = ("mode", "vary", "scenes", "tries", "seed")
        return {"budget": budget, "bits": bits, **{name: getattr(self, name) for name in fields}}


def run(
    model: ModelChoice,
    scenes: SceneChoice | None,
    recipe: RecipeChoice,
    choice: SearchChoice,
    *,
    out: Path | None,
    json_file: Path | None,
) -> None:
    """Search, print the front, write the recipe that was chosen.

    Args:
        model: Which network.
        scenes: What to search on; None: the lab's own calibration rooms.
        recipe: The method, whose bits are chosen anew; rtn W4A4 where nothing is said.
        choice: How to search.
        out: The chosen recipe is written here.
        json_file: The whole search is written here.

    Raises:
        QuantLabError: Something that was asked for does not exist or cannot be done.
    """
    check_writable(out)
    check_writable(json_file)
    options, asked = choice.options(), recipe.load(otherwise="rtn")
    from quantlab.engine.budget import check_budget

    check_budget(options["budget"])
    loaded = None if scenes is None else scenes.load(split="calibration")
    shown = model.load()
    from quantlab.lab import Lab

    lab = Lab(
        shown,
        calibration=loaded,
        evaluation=None if loaded is None else loaded[:1],
        recipe=asked,
        seed=choice.seed,
    )
    warn(lab)
    with stage("search") as job:
        found = lab.search(**options, job=job)
    if json_file is not None:
        record = {"model": shown.name, **found.to_dict(), "notes": _times(found)}
        say(f"written: {write_json(json_file, record)}")
    if out is not None:
        found.chosen.recipe.save(out)
        say(f"written: {out}")
    _print(shown, label(asked), found)


def _print(model: Model, title: str, found: Search) -> None:
    scan, eight = found.sensitivity, _eight(found)
    rows = [_row(one, found, eight) for one in sorted(_shown(found), key=lambda one: (one.bytes, one.kind))]
    check, fixed = scan.check, megabytes(scan.fixed_bytes)
    limit = found.budget_seconds
    within = megabytes(found.budget) if limit is None else f"{1e3 * limit:.3g} ms a forward pass"
    size = (
        f"chosen: {megabytes(found.chosen.bytes)} within {within}, of which {fixed} are not"
        " quantized; sizes are of the whole network, shares of the quantized layers"
    )
    scenes = len(found.chosen.verified.scenes) if found.chosen.verified is not None else 0
    effort = f"{found.tried} recipes run, {found.seconds:.0f} s"
    lines = [
        *_times(found),
        size,
        f"point error on {scenes} calibration scenes, predicted from {len(scan.scenes)}; {effort}",
    ]
    if any(16 in one.bits.values() for one in _shown(found)):
        lines.append("a layer of 16 bits is not rounded at all, its input neither")
    if check is not None and check.spearman is not None and check.ratio is not None:
        lines.append(
            f"single layers add up: rank correlation {check.spearman:.2f}, measured / predicted"
            f" {check.ratio:.2f}, over {len(check.predicted)} random choices"
        )
    lines += [f"single layers were measured so: {note}" for note in scan.simplified]
    table(f"{called(model)}, bits searched for {title}", COLUMNS, rows, note="\n".join(lines))


def _times(found: Search) -> list[str]:
    """Whether the time that was asked for can be reached, and what the result takes; nothing of a search by size."""
    from quantlab.views.timing import search_times

    return [sentence.replace("\u00a0", " ") for sentence in search_times(found)]


def _eight(found: Search) -> int:
    """Bytes of the layers that vary, at 8 bits, or at the most bits there are."""
    scan = found.sensitivity
    return sum(own[8] if 8 in own else max(own.values()) for own in scan.bytes.values())


def _shown(found: Search) -> list[Candidate]:
    """What was really run, each recipe once."""
    distinct = {one.recipe: one for one in (*found.candidates, found.current, *found.uniform, found.chosen)}
    return [one for one in distinct.values() if one.verified is not None]


def _row(one: Candidate, found: Search, eight: int) -> tuple[str | float | None, ...]:
    counts = Counter(one.bits.values())
    share = (one.bytes - found.sensitivity.fixed_bytes) / eight
    name = "chosen" if one.recipe == found.chosen.recipe else one.label if one.kind != "front" else ""
    return (
        name,
        megabytes(one.bytes),
        f"{share:.0%}",
        f"{one.predicted:.3%}",
        None if one.verified is None else f"{one.verified.drift:.3%}",
        ", ".join(f"{count} × {bits}" for bits, count in sorted(counts.items())),
    )
