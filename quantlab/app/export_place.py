"""Where what a person takes away goes: one folder, and in it a folder of the name the page gives. It writes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from quantlab import deploy
from quantlab.app.kept import file_name
from quantlab.errors import StorageError
from quantlab.packed.manifest import is_packed

FOLDER = "QUANTLAB_EXPORTS"
"""Variable of the environment that names the folder; without it, "exports" where the app was started."""
LONGEST = 80
"""Characters of a name."""


def exports() -> Path:
    """Where exported models go, absolute."""
    return Path(os.environ.get(FOLDER, "exports")).absolute()


@dataclass(frozen=True, slots=True)
class Asked:
    """One export.

    Attributes:
        target: "packed", or a key of `deploy.TARGETS`.
        name: Of the folder, as the page has it.
        static: Whether a recipe that the target cannot hold gives way to the nearest that it can.
        overwrite: Whether an earlier export may go.
    """

    target: str
    name: str
    static: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what is no name.

        Raises:
            StorageError: It is a path, or too long.
        """
        if any(mark in self.name for mark in "/\\"):
            problem = f"give a name, not a path: exports go to {exports()}"
        elif len(self.name) > LONGEST:
            problem = f"the name is too long: it has {len(self.name)} characters, at most {LONGEST} fit"
        else:
            return
        raise StorageError(problem, place=self.name[:LONGEST], remedy="Take one as mini-rtn-W4A4.")

    @property
    def stem(self) -> str:
        """The name as a disk takes it."""
        return file_name(self.name, ending="")

    @property
    def folder(self) -> Path:
        """Where it goes: what ONNX and OpenVINO make never shares a folder with anything else."""
        ending = "" if self.target == "packed" else f"-{self.target}"
        return exports() / (self.stem if self.stem.endswith(ending) else self.stem + ending)

    @property
    def stands(self) -> bool:
        """Whether an earlier export is there."""
        return is_packed(self.folder) if self.target == "packed" else deploy.stands(self.target, self.folder)
