"""The file of a measured group: what was timed, by whom, on what; or why nothing was. It measures nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from quantlab.bench.speed.clock import Timing
from quantlab.bench.speed.contenders import Contender
from quantlab.bench.speed.kinds import rounds, sound
from quantlab.bench.speed.machine import native_lack
from quantlab.bench.speed.plan import CPU, FORMAT, Group
from quantlab.errors import StorageError
from quantlab.storage import atomic_write

CODE = ("kernels", "packed", "models", "bench/speed")
"""Folders of the package that decide how fast something is: where they changed, a group is measured again."""

OURS = ("best", "quantized", "packed")
"""Makers of contenders that may run our own C code."""


@dataclass(frozen=True, slots=True)
class Line:
    """One contender in a group.

    Attributes:
        name: Of the contender.
        timing: What was measured.
        facts: Of it: kernels that ran, seconds of building; bytes, where memory is measured.
    """

    name: str
    timing: Timing
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A group, the digest of what was asked for, its lines, and when and on what they were made."""

    group: Group
    digest: str
    lines: tuple[Line, ...]
    made: Mapping[str, Any]

    def line(self, name: str) -> Line | None:
        """The line of a contender, or None where it took no part."""
        return next((line for line in self.lines if line.name == name), None)

    def speedup(self, name: str, over: str) -> float | None:
        """How many times faster ``name`` is than ``over``: processor time on one thread, wall time elsewhere."""
        mine, theirs = self.line(name), self.line(over)
        if mine is None or theirs is None:
            return None
        return mine.timing.faster_than(theirs.timing, wall=self.group.wall)


def digest(group: Group, asked: Sequence[Contender], seconds: float) -> str:
    """Changes with everything that decides what is measured, the machine and the versions of others apart.

    On a CPU our own contenders are others without our C code: a digest says so where it is not there, or not whole.
    """
    named: dict[str, Any] = {"format": FORMAT, "group": group.to_dict()}
    named["contenders"] = [contender.to_dict() for contender in asked]
    if group.device == CPU and any(contender.maker in OURS for contender in asked):
        named |= {"native": lack} if (lack := native_lack()) else {}
    text = json.dumps({**named, "seconds": seconds, "code": _code()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def path_of(folder: Path, machine: str, group: Group) -> Path:
    """The file of a group measured on a machine."""
    return folder / "groups" / machine / f"{group.key}.json"


def write(record: Record, path: Path) -> None:
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
    atomic_write(path, json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> Record | None:
    """The record in a file; None where there is none, or what is there is no record (then it is measured again)."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(data, ensure_ascii=False).encode()  # half a character can be read, but in no way written
        lines = tuple(
            Line(str(line["name"]), _timing(line["timing"]), dict(line["facts"])) for line in data["lines"]
        )
        found = Record(Group(**data["group"]), str(data["digest"]), lines, dict(data["made"]))
        return found if sound(found.group, [line.facts for line in lines], found.made) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def every(folder: Path, machine: str, tell: Callable[[str], object] = lambda _: None) -> list[Record]:
    """All records of a machine below the folder of results, in the order of their names; damaged ones are told."""
    found = {path: read(path) for path in sorted((folder / "groups" / machine).glob("*.json"))}
    for path in (path for path, record in found.items() if record is None):
        tell(f"{machine}/{path.name}: the file is damaged, so it is left out")
    return [record for record in found.values() if record is not None]


def _timing(data: Mapping[str, Any]) -> Timing:
    return Timing(rounds(data["cpu"]), rounds(data["wall"]), str(data["reason"]))


@lru_cache(maxsize=1)
def _code() -> str:
    """A digest of the package's own sources that decide how fast it is."""
    import quantlab

    root, total = Path(quantlab.__file__).parent, hashlib.sha256()
    for folder in CODE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".c", ".h"):
                total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return total.hexdigest()
