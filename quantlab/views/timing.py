"""What measured times say in words: of a forward pass, of a layer, of a search by time. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quantlab.figures.readable import duration, short, size
from quantlab.views.spent import spent

if TYPE_CHECKING:
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.measurement import Measurement
    from quantlab.engine.search_record import Search

SAME = 1.05
"""Ratios up to it are noise of the machine."""
WIDE = 1.1
"""Quartiles of the rounds' ratios that are further apart give a range, and no number."""
BUSY = 1.3
"""The slowest pass over the fastest, from which on something else was running."""
KNOWN = {"native": "native (our own C)"}
"""Kernels whose name does not say whose they are."""
MEASURING = "measuring…"
ASK = (
    "Time of one scene as executed: the layers are packed and run by the fastest kernels of this machine, in turns"
    " with full precision. Until that is measured, every layer is simulated, which is slower."
)


def forward_tile(
    measured: Measurement | None,
    before: Measurement | None,
    evaluation: Evaluation | None,
    *,
    measuring: bool = False,
) -> dict[str, Any]:
    """The time of a whole forward pass as executed, or the offer to measure it.

    Args:
        measured: Under the recipe; None: not measured.
        before: Under the recipe before the last change.
        evaluation: Under the recipe; a pass in which blocks were answered from memory says nothing of the simulation.
        measuring: Whether it is being measured now.
    """
    tile: dict[str, Any] = {
        "label": "forward",
        "value": "",
        "unit": "",
        "note": MEASURING if measuring else "not measured",
        "base": "",
        "trend": "",
    }
    if measured is None:
        simulated = evaluation is not None and not evaluation.replayed
        told = " ".join(duration(evaluation.seconds)) if simulated and evaluation is not None else ""
        base = f"simulated {told}" if told else ""
        return tile | {"base": base, "help": ASK, "ask": _ask("Measure", measuring=measuring)}
    value, unit = duration(measured.seconds)
    note = speed(measured) if before is None else f"was {' '.join(duration(before.seconds))}"
    base, rounds = f"full {' '.join(duration(measured.full_seconds))}", _range(measured)
    if rounds:
        base = "busy machine" if rounds in note else f"{rounds}, busy"
    elif _waited(measured):
        base = "busy machine"
    told = explained(measured)
    found = {"value": value, "unit": unit, "note": MEASURING if measuring else note, "base": base}
    behind = {"help": told, "details": told.split("\n"), "spent": spent(measured)}
    return tile | found | behind | {"ask": _ask("↻", measuring=measuring)}


def speed(measured: Measurement) -> str:
    """How it compares with full precision: "2.1× faster", or "1.1–1.4× as fast" where rounds do not agree."""
    ratio, (low, high), rounds = measured.faster, measured.between, _range(measured)
    if 1 / SAME < ratio < SAME or low <= 1 <= high:
        return "about as fast"
    if rounds:
        return f"{rounds} as fast"
    return f"{short(ratio, 2)}× faster" if ratio > 1 else f"{short(1 / ratio, 2)}× slower"


def kernels(counts: Mapping[str, int]) -> str:
    """Kernels and how many layers each executes."""
    told = ", ".join(f"{KNOWN.get(name, name)} × {count}" for name, count in counts.items())
    return told or "none: no layer is rounded"


def explained(measured: Measurement) -> str:
    """Everything that was measured, a line each."""
    where = f"{measured.machine}, {_count(measured.threads, 'thread')}"
    full = " ".join(duration(measured.full_seconds))
    lines = [
        f"measured on this machine ({where}), median of {_count(measured.runs, 'pass', 'es')}",
        f"full precision, in turns with it: {full}; {speed(measured)}{', round against round' * bool(measured.ratios)}",
        *_spread(measured),
        f"kernels: {kernels(measured.kernels)}; attention: {measured.attention}",
        f"weights in memory: {_bytes(measured.bytes)} of {_bytes(measured.full_bytes)}",
    ]
    if measured.peak_bytes is not None:
        lines.append(f"memory besides, at the most: {_bytes(measured.peak_bytes)}")
    if measured.errors:
        lines.append(f"outputs off full precision by up to {_off(measured)}")
    if measured.lowered is not None:
        took, off = " ".join(duration(measured.lowered.seconds)), _off(measured.lowered)
        lines.append(f"with bfloat16 between the layers (compute='bfloat16'): {took}, off by up to {off}")
    if measured.mixed_seconds is not None:
        lines.append(
            f"the published mixed precision (bfloat16): {' '.join(duration(measured.mixed_seconds))}"
        )
    if measured.simulated:
        lines.append(
            f"{_count(len(measured.simulated), 'layer')} simulated: no kernel multiplies their integers"
        )
    lines += [f"not {KNOWN.get(kernel, kernel)}: {why}" for kernel, why in measured.skipped.items()]
    return "\n".join(lines)


def layer_time(measured: Measurement | None, name: str) -> str:
    """A layer's part of the forward pass: "0.52 ms (1.3 %) by native"; "" where it was not timed."""
    share = None if measured is None else measured.shares.get(name)
    if measured is None or share is None:
        return ""
    by = measured.chosen.get(name)
    told = f"{short(1e3 * measured.layers[name], 2)} ms ({short(100 * share, 2)} %)"
    return f"{told} by {by}" if by else told


def time_parts(measured: Measurement | None, part_of: Mapping[str, str]) -> str:
    """Where a forward pass goes: "trunk 10 %, heads 47 %, between layers 43 % of 91 ms".

    Args:
        measured: Under the recipe; None gives "".
        part_of: Layer to the part of the network that it is in, as people call it.
    """
    if measured is None or not measured.layers:
        return ""
    parts: dict[str, float] = {}
    for name, share in measured.shares.items():
        part = part_of.get(name, "other")
        parts[part] = parts.get(part, 0.0) + share
    told = {part if len(parts) > 1 else "layers": round(100 * share) for part, share in parts.items()}
    told["between layers"] = max(0, 100 - sum(told.values()))
    listed = ", ".join(f"{part} {share} %" for part, share in told.items())
    return f"{listed} of {' '.join(duration(measured.seconds))}"


def search_times(search: Search) -> list[str]:
    """Sentences on a search by time: what was asked for, what came of it, whether the front is more than noise.

    None of a search by size. A number and its unit stay on one line.
    """
    limit, taken = search.budget_seconds, search.chosen.timed
    if limit is None:
        return []
    asked, told = limit if search.asked_seconds is None else search.asked_seconds, []
    if asked < limit:
        told.append(
            f"{_ms(asked)} cannot be reached: the fastest choice of bits takes {_ms(limit)}, and is chosen."
        )
    if taken is not None:
        what = "What" if asked < limit else f"Asked for {_ms(asked)}, what"
        told.append(f"{what} was chosen takes {_ms(taken)} as measured.")
    known = [one.seconds for one in search.candidates if one.seconds is not None]
    span = max(known) - min(known) if known else 0.0
    if known and span < search.spread_seconds:
        told.append(
            f"The whole front spans {_ms(span)}, and passes of one recipe differ by {_ms(search.spread_seconds)}:"
            " on this machine such differences in time are noise."
        )
    return told


def _ms(seconds: float) -> str:
    return f"{short(1e3 * seconds)}\u00a0ms"


def _ask(label: str, *, measuring: bool) -> dict[str, Any]:
    return {"do": "measure", "label": label, "busy": measuring}


def _range(measured: Measurement) -> str:
    """Where the middle half of the rounds lies, "0.94–1.3×"; "" where they agree."""
    low, high = measured.between
    return f"{short(low, 2)}–{short(high, 2)}×" if high > WIDE * low else ""


def _off(measured: Measurement) -> str:
    """The largest relative error of an output, against full precision."""
    return f"{short(100 * max(measured.errors.values(), default=0.0), 2)} %"


def _waited(measured: Measurement) -> bool:
    """Whether the medians on the wall tell another speed than the rounds do: passes waited for other work."""
    ratio = measured.full_seconds / measured.seconds / measured.faster
    return not 1 / WIDE <= ratio <= WIDE


def _spread(measured: Measurement) -> list[str]:
    """What a busy machine does to single passes, where it shows."""
    rounds = _range(measured)
    if measured.slowest <= BUSY * measured.fastest and not rounds and not _waited(measured):
        return []
    low, high = (" ".join(duration(seconds)) for seconds in (measured.fastest, measured.slowest))
    half = f", half of the rounds were {rounds} as fast" if rounds else ""
    return [f"the machine was busy: passes took {low} to {high}{half}; measure again when it is not"]


def _bytes(count: int) -> str:
    return " ".join(size(count))


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else plural}"
