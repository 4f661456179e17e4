"""Stand-ins around modules as data, and back: compensated branches, rounded keys and values. It fits nothing.

A stand-in is named by the module it stands for; those inside come before those around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from quantlab.errors import CheckpointError
from quantlab.kernels.compensated import CompensatedOutput, Tap, TappedInput, Wrapper
from quantlab.kernels.kv import RoundedHeads, RoundedKeys, RoundedProjection, SpecialTokens
from quantlab.kernels.reference import Simulated
from quantlab.methods.compensation import Correction
from quantlab.methods.kv import KVFormat
from quantlab.models.places import Places
from quantlab.packed.layers import decode, encode, readable

Record = dict[str, Any]
CORRECTION = ("down", "up", "bias")


def walk(network: nn.Module) -> Iterator[tuple[str, nn.Module, tuple[Wrapper, ...]]]:
    """Every module under the name it has without stand-ins, once, those inside first, and what stands around it.

    Yields:
        Name, module, and its stand-ins from the innermost out.
    """
    yield from _walk("", network, set())


def _walk(
    name: str, module: nn.Module, seen: set[int]
) -> Iterator[tuple[str, nn.Module, tuple[Wrapper, ...]]]:
    around: list[Wrapper] = []
    while isinstance(module, Wrapper):
        around.append(module)
        module = module.inner
    if id(module) in seen:
        return
    seen.add(id(module))
    for own, child in () if isinstance(module, Simulated) else module.named_children():
        yield from _walk(f"{name}.{own}".lstrip("."), child, seen)
    yield name, module, tuple(reversed(around))


def describe(network: nn.Module) -> tuple[list[Record], dict[str, Tensor]]:
    """All stand-ins of a network, and their tensors by name.

    Raises:
        CheckpointError: One is of a kind that cannot be stored.
    """
    noting = {id(own): name for name, module, _ in walk(network) for own in _noted_by(module)}
    taps: dict[int, int] = {}
    marks: dict[int, int] = {}
    records: list[Record] = []
    tensors: dict[str, Tensor] = {}
    for name, _, around in walk(network):
        for wrapper in around:
            record: Record = {"at": name, "kind": type(wrapper).__name__}
            if isinstance(wrapper, TappedInput | CompensatedOutput):
                record["tap"] = taps.setdefault(id(wrapper.tap), len(taps))
            if isinstance(wrapper, CompensatedOutput):
                parts = {part: getattr(wrapper.correction, part) for part in CORRECTION}
                tensors |= {f"{name}.correction_{part}": tensor for part, tensor in parts.items()}
            elif isinstance(wrapper, RoundedHeads):
                special = marks.setdefault(id(wrapper.special), len(marks))
                record |= {"special": special, "noted_by": noting.get(id(wrapper.special))}
                record |= _rounding(wrapper)
            elif not isinstance(wrapper, TappedInput):
                raise CheckpointError(f"a {record['kind']} cannot be stored", place=name)
            records.append(record)
    return records, tensors


def put(places: Places, records: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> None:
    """Put the stand-ins that `describe` found around the modules of a network.

    Raises:
        CheckpointError: One names no module, or is not what `describe` writes.
    """
    taps: dict[int, Tap] = {}
    marks: dict[int, SpecialTokens] = {}
    for record in records:
        with readable("a stored stand-in"):
            inner = places.current(record["at"])
            places.put(record["at"], _made(record, inner, places, taps, marks, tensors).eval())


def _made(
    record: Mapping[str, Any],
    inner: nn.Module,
    places: Places,
    taps: dict[int, Tap],
    marks: dict[int, SpecialTokens],
    tensors: Mapping[str, Tensor],
) -> Wrapper:
    kind, name = record["kind"], record["at"]
    if kind == "TappedInput":
        return TappedInput(inner, taps.setdefault(record["tap"], Tap()))
    if kind == "CompensatedOutput":
        correction = Correction(*(tensors[f"{name}.correction_{part}"] for part in CORRECTION))
        return CompensatedOutput(inner, taps.setdefault(record["tap"], Tap()), correction)
    chosen = decode(record["format"])
    if not isinstance(chosen, KVFormat):
        raise TypeError("it has no format of keys and values")
    if record["special"] not in marks:
        marks[record["special"]] = SpecialTokens()
        if record["noted_by"] is not None:
            note = marks[record["special"]].note
            places.original(record["noted_by"]).register_forward_pre_hook(note, with_kwargs=True)
    special, heads, place = marks[record["special"]], int(record["heads"]), str(record["place"])
    if kind == "RoundedKeys":
        return RoundedKeys(inner, chosen, heads, special, place)
    if kind != "RoundedProjection":
        raise KeyError(kind)
    parts, count = tuple(int(part) for part in record["parts"]), int(record["count"])
    return RoundedProjection(inner, chosen, heads, special, place, parts=parts, count=count)


def _rounding(wrapper: RoundedHeads) -> Record:
    record = {"format": encode(wrapper.format), "heads": wrapper.kv_heads, "place": wrapper.place}
    if isinstance(wrapper, RoundedProjection):
        record |= {"parts": list(wrapper.parts), "count": wrapper.count}
    return record


def _noted_by(module: nn.Module) -> list[SpecialTokens]:
    """What learns from the calls of a module which tokens are special."""
    hooks = module._forward_pre_hooks.values()  # noqa: SLF001 - torch offers no other way to look
    owners = (getattr(hook, "__self__", None) for hook in hooks)
    return [owner for owner in owners if isinstance(owner, SpecialTokens)]
