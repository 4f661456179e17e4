"""Says in plain words why a layer is hard to quantize, from its numbers. It measures nothing and knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantlab.engine.settings import FULL_PRECISION, LayerSettings
from quantlab.engine.views import BranchOutput, Evidence

NOTABLE, LEAST = 2.0, 0.2
"""A token kind is named when it carries this many times its share of the tokens, and at least a fifth of all."""
FEW = 16
"""Channels are named when fewer than one in so many carries half."""
NAMED = 3
WORTH = 0.9
"""A remedy is recommended when it leaves at most this much of the error."""
MADE = {"rotated": "rotation", "smoothed": "smoothing"}


def read_layer(
    facts: Mapping[str, Any], evidence: Evidence | None, output: BranchOutput | None = None
) -> str:
    """What the numbers say: who makes the range, what that costs, and what was measured to help.

    Args:
        facts: The fields of a `LayerView` but its reading.
        evidence: None where there are no samples.
        output: Of the branch that ends with this layer.
    """
    settings: LayerSettings = facts["settings"]
    sentences = [_source(evidence), _spread(evidence)] if evidence is not None else []
    if not facts["quantized"]:
        reason = str(facts["reason"]).removesuffix(": nothing is rounded")
        sentences.append(f"Nothing is rounded here: {reason}.")
    else:
        sentences += [_levels(facts), _cost(facts, settings, evidence), _remedy(evidence), _corrected(output)]
    return " ".join(sentence for sentence in sentences if sentence)


def _source(evidence: Evidence) -> str:
    """Whose values make the range: token kinds and channels, where some stand out."""
    if not evidence.channels:
        return "The input is zero."
    tokens, channels = _tokens(evidence), _channels(evidence)
    if tokens and channels:
        return _sentence(f"{tokens}; {_percent(evidence.channel_share)} of it lies in {channels}")
    if tokens:
        return _sentence(tokens)
    if channels:
        verb = "makes" if len(evidence.channels) == 1 else "make"
        return _sentence(f"{channels} {verb} {_percent(evidence.channel_share)} of the squared token maxima")
    count = f"{len(evidence.channels)} of {evidence.width}"
    return (
        f"No token kind and no channel stands out: half of the squared token maxima lies in {count} channels."
    )


def _tokens(evidence: Evidence) -> str:
    fair = evidence.kind_tokens / max(1, evidence.tokens)
    if evidence.kind_share < max(LEAST, NOTABLE * fair):
        return ""
    kind, count = evidence.kind.replace("_", " "), evidence.kind_tokens
    verb = "carries" if count == 1 else "carry"
    of = f"{count} {kind} token{'' if count == 1 else 's'} of {evidence.tokens} sampled"
    return f"{of} {verb} {_percent(evidence.kind_share)} of the squared token maxima"


def _channels(evidence: Evidence) -> str:
    count = len(evidence.channels)
    if count * FEW > evidence.width:
        return ""
    named = [str(channel) for channel in evidence.channels[:NAMED]]
    if count > NAMED:
        return f"channels {', '.join(named)} and {count - NAMED} more of {evidence.width}"
    words = named[0] if count == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"channel{'' if count == 1 else 's'} {words} of {evidence.width}"


def _spread(evidence: Evidence) -> str:
    """How far the largest value sticks out, and what the steps taken made of it."""
    steps = [step for step in evidence.crest if step in MADE]
    now = f"max/rms {_short(evidence.crest['raw'])}"
    if not steps:
        return f"Input {now}."
    made = " and ".join(MADE[step] for step in steps)
    return f"Input {now}, {_short(evidence.crest[steps[-1]])} after {made}."


def _levels(facts: Mapping[str, Any]) -> str:
    if facts["grid"] is None:
        return ""
    unused, clipped = facts["wasted_levels"] / len(facts["grid"]), facts["clipped_fraction"]
    used = f"{_percent(unused)} of the levels are never used" if unused else "all levels are used"
    text = f"{used}, {_percent(clipped)} of the values are clipped" if clipped else used
    return _sentence(text)


def _cost(facts: Mapping[str, Any], settings: LayerSettings, evidence: Evidence | None) -> str:
    """The error of the output, and which rounding makes it."""
    if facts["output_error"] is None:
        weight = settings.weights < FULL_PRECISION
        return f"Rounding costs {_percent(facts['weight_error'])} of the weight." if weight else ""
    text = f"Rounding costs {_percent(facts['output_error'])} of the output"
    apart = [] if evidence is None else [("input", evidence.input_only), ("weight", evidence.weight_only)]
    known = sorted(((name, error) for name, error in apart if error is not None), key=lambda item: -item[1])
    if len(known) == 2:
        first, second = ((name, _percent(error)) for name, error in known)
        text += f" ({first[1]} by the {first[0]} alone, {second[1]} by the {second[0]})"
    return f"{text}."


def _remedy(evidence: Evidence | None) -> str:
    """What was tried on the samples and how much it helped."""
    if evidence is None or not evidence.remedies or not evidence.plain_error:
        return ""
    best = evidence.remedies[0]
    if best.output_error > WORTH * evidence.plain_error:
        names = [remedy.name for remedy in evidence.remedies if " and " not in remedy.name]
        lead = f"Neither {' nor '.join(names)}" if len(names) > 1 else _sentence(names[0])[:-1]
        negated = "would" if len(names) > 1 else "would not"
        return f"{lead} {negated} help (output error {_percent(best.output_error)})."
    before = [step for step in evidence.crest if step != "quantized"][-1]
    name = best.name[:1].upper() + best.name[1:]
    return (
        f"{name} would help: max/rms {_short(evidence.crest[before])} → {_short(best.crest)},"
        f" output error {_percent(evidence.plain_error)} → {_percent(best.output_error)}."
    )


def _corrected(output: BranchOutput | None) -> str:
    if output is None:
        return ""
    return (
        f"The correction takes the branch's error from {_percent(output.error)}"
        f" to {_percent(output.compensated_error)}."
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _percent(share: float) -> str:
    return f"{_short(100 * share)} %"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
