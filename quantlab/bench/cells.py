"""One measured cell and its file: what was asked, what came out, or why nothing did. It measures nothing.

A cell carries a digest of its recipe, its model's weights and its protocol. A cell whose digest is not the one that
is asked for now was made with other settings, and is measured again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quantlab.bench.protocol import Bits, Protocol
from quantlab.engine.recipe import Recipe
from quantlab.errors import QuantLabError, StorageError
from quantlab.storage import atomic_write

DONE, FAILED = "done", "failed"
KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("model", "method", "digest", "reason"), str),
    **dict.fromkeys(("recipe", "protocol", "made"), dict),
    "seed": int,
    "seconds": int | float,
}
"""Entry of a record to what kind of value it must hold when it is read back."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is to be measured.

    Attributes:
        model: Name of the network.
        method: Name of the row.
        bits: Column.
        seed: Of the recipe.
        recipe: As plain data; empty where the method refuses these bits.
        protocol: How it is measured.
        weights: Digest of the network's weights.
    """

    model: str
    method: str
    bits: Bits
    seed: int
    recipe: Mapping[str, Any]
    protocol: Protocol
    weights: str

    def __str__(self) -> str:
        return f"{self.model} {self.method} {self.bits} seed {self.seed}"

    @property
    def digest(self) -> str:
        """Changes with everything that could change a number, the machine apart."""
        decides = {"recipe": _nameless(self.recipe), "protocol": self.protocol.to_dict()}
        text = json.dumps({**decides, "weights": self.weights}, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def path(self, folder: Path) -> Path:
        """Its file below the folder of results."""
        return folder / "cells" / self.model / self.method / str(self.bits) / f"{self.seed}.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out of a cell.

    Attributes:
        metrics: Name to the one value of the cell; None where it does not exist.
        rooms: Name to one value a room, in the order of the rooms; None where it does not exist.
        problems: What could not be scored and why, one sentence each.
        names: Of the rooms it was evaluated on.
        calibrated_on: Of the scenes it was calibrated on.
    """

    metrics: Mapping[str, float | None]
    rooms: Mapping[str, Sequence[float | None]]
    problems: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    calibrated_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A cell's file: the cell, its digest, and either what was measured or the reason why nothing was.

    ``made`` says when, on what and by which command; ``seconds`` is all the time the cell took.
    """

    model: str
    method: str
    bits: Bits
    seed: int
    digest: str
    recipe: Mapping[str, Any]
    protocol: Mapping[str, Any]
    seconds: float = 0.0
    measured: Measured | None = None
    reason: str = ""
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Whether it was measured: "done", else "failed"."""
        return FAILED if self.measured is None else DONE

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not finite is None."""
        return {**asdict(self), "bits": str(self.bits), "state": self.state}


def record(
    cell: Cell,
    *,
    seconds: float,
    made: Mapping[str, Any],
    measured: Measured | None = None,
    reason: str = "",
) -> Record:
    """The record of a cell that was measured, or failed for a reason."""
    return Record(
        cell.model,
        cell.method,
        cell.bits,
        cell.seed,
        cell.digest,
        cell.recipe,
        cell.protocol.to_dict(),
        seconds,
        measured,
        reason,
        made,
    )


def write(made: Record, path: Path) -> None:
    """Write a record, whole or not at all.

    Raises:
        StorageError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the folder cannot be made: {error.strerror}",
            place=str(path.parent),
            remedy="Choose another --out.",
        ) from None
    atomic_write(path, json.dumps(_finite(made.to_dict()), allow_nan=False, ensure_ascii=False) + "\n")


def read(path: Path) -> Record | None:
    """The record in a file; None where there is none, or what is there is no record (then it is measured again)."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(data, ensure_ascii=False).encode()  # half a character can be read, but in no way written
        measured = data["measured"]
        data["bits"], _ = Bits.parse(data["bits"]), data.pop("state")
        data["measured"] = None if measured is None else _measured(measured)
        found = Record(**data)
        if found.recipe:
            Recipe.from_dict(dict(found.recipe))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
    except QuantLabError:  # bits that are none, or a recipe
        return None
    return found if _sound(found) else None


def every(folder: Path, model: str, tell: Callable[[str], object] = lambda _: None) -> Iterator[Record]:
    """All records of a model below the folder of results, whatever made them; damaged ones are told."""
    for path in sorted((folder / "cells" / model).glob("*/*/*.json")):
        found = read(path)
        if found is not None:
            yield found
        else:
            tell(f"{path.relative_to(folder / 'cells')}: the file is damaged, so it is left out")


def models(folder: Path) -> list[str]:
    """The models that have cells below the folder of results."""
    return sorted(path.name for path in (folder / "cells").glob("*") if path.is_dir())


def _sound(found: Record) -> bool:
    """Whether everything is what it must be for a table; protocol and circumstances are plain values."""
    if not all(isinstance(getattr(found, name), kind) for name, kind in KINDS.items()):
        return False
    plain = (*found.protocol.values(), *found.made.values())
    return all(value is None or isinstance(value, str | int | float) for value in plain)


def _measured(data: Mapping[str, Any]) -> Measured:
    listed = {name: tuple(map(str, data[name])) for name in ("problems", "names", "calibrated_on")}
    rooms = {name: [_number(entry) for entry in values] for name, values in data["rooms"].items()}
    return Measured(
        metrics={name: _number(one) for name, one in data["metrics"].items()}, rooms=rooms, **listed
    )


def _number(value: Any) -> float | None:
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
        raise TypeError(f"{value!r} is no number")
    return value


def _nameless(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "name"}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
