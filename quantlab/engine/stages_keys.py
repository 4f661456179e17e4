"""What each quantized layer is made from, so that nothing is built twice and nothing stays that is out of date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from quantlab.engine.fisher_data import nearest
from quantlab.engine.settings import LayerSettings
from quantlab.engine.walk import stages_of
from quantlab.models.structure import Structure


@dataclass(frozen=True, slots=True)
class LayerKey:
    """What a quantized layer is made from: equal keys, equal layers.

    Attributes:
        settings: In force.
        seed: Of the recipe.
        selection: Which scenes it is calibrated on; None where it needs none.
        context: Digest of what else it depends on, of other layers; "" where there is nothing.
    """

    settings: LayerSettings
    seed: int
    selection: Hashable = None
    context: str = ""

    @property
    def learned(self) -> bool:
        """Whether reconstruction learns parts of the layer."""
        return self.settings.staged and self.settings.reconstruction != "none"


def staged_keys(
    structure: Structure,
    settings: Mapping[str, LayerSettings],
    seed: int,
    selection: Hashable,
    order: Callable[[], Mapping[str, int]],
) -> dict[str, LayerKey]:
    """The key of every layer to quantize.

    A layer that is learned depends on all settings of its stage; one that is calibrated on quantized inputs on those
    of all layers that run before its stage; a search by gradients on the formats of all, at which they are taken.

    Args:
        structure: Of the network.
        settings: In force, of the layers to quantize.
        seed: Of the recipe.
        selection: Of the calibration scenes.
        order: Asked only where it matters: the place of each layer in the order of execution.
    """
    stages = {layer: stage for stage, layers in stages_of(structure).items() for layer in layers}
    own = {name: hashlib.sha256(repr((name, asked)).encode()).digest() for name, asked in settings.items()}
    members: dict[str, list[str]] = {}
    for name in settings:
        members.setdefault(stages.get(name, ""), []).append(name)
    upstream: dict[str, bytes] = {}
    if any(asked.staged and asked.inputs == "quantized" for asked in settings.values()):
        upstream = _upstream(members, own, order())
    formats = formats_digest(settings) if any(asked.fisher for asked in settings.values()) else b""
    keys: dict[str, LayerKey] = {}
    for name, asked in settings.items():
        stage, context = stages.get(name, ""), hashlib.sha256()
        if stage and asked.staged and asked.reconstruction != "none":
            context.update(b"stage" + b"".join(own[other] for other in members[stage]))
        if stage and asked.staged and asked.inputs == "quantized":
            context.update(b"upstream" + upstream[stage])
        if asked.fisher:
            context.update(b"formats" + formats)
        seen = context.digest() != hashlib.sha256().digest()
        keys[name] = LayerKey(
            asked, seed, selection if asked.calibrated else None, context.hexdigest() if seen else ""
        )
    return keys


def formats_digest(settings: Mapping[str, LayerSettings]) -> bytes:
    """Digest of the formats of all layers, at which gradients are taken."""
    return hashlib.sha256(
        repr([(name, nearest(asked)) for name, asked in settings.items()]).encode()
    ).digest()


def _upstream(
    members: Mapping[str, Sequence[str]], own: Mapping[str, bytes], order: Mapping[str, int]
) -> dict[str, bytes]:
    """For each stage a digest of all layers that run before its first."""
    ranked = sorted(own, key=order.__getitem__)
    found: dict[str, bytes] = {}
    for stage, names in members.items():
        first = min(order[name] for name in names)
        digest = hashlib.sha256(b"".join(own[name] for name in ranked if order[name] < first))
        found[stage] = digest.digest()
    return found
