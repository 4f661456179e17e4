"""Where an export goes: a folder or a file that is new, or whose earlier export may give way. It knows no formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quantlab.deploy.files import settled
from quantlab.engine.standing import require_place
from quantlab.errors import StorageError
from quantlab.packed.folder import FREE, new_folder
from quantlab.storage import atomic_write, check_writable

STEM = "model"
RECIPE = "recipe.yaml"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that holds one export and nothing else, or a file of the target's ending.

    Attributes:
        path: Which.
        label: What people call the target.
        suffix: Of the target's files; a path that ends in it is a file.
        data: In its stead, of the file beside it that holds weights, where there is one.
        wrote: Whether a file of that ending is an export of ours.
        overwrite: Whether such a one may give way.
    """

    path: Path
    label: str
    suffix: str
    data: str
    wrote: Callable[[Path], bool]
    overwrite: bool = False

    def require_free(self) -> None:
        """Find out before long work, not after it, that nothing can be written there.

        Raises:
            StorageError: Something stands there that may not be replaced, or the folder around it is missing.
        """
        if not self._is_file:
            require_place(self.path, self.label, self._gives_way, overwrite=self.overwrite)
            return
        check_writable(self.path)
        taken = [file for file in self._files(self.path) if file.exists()]
        if taken and not (self.overwrite and self.wrote(self.path)):
            raise StorageError(
                f"a file of this name exists{', and is no such export' if self.overwrite else ''}",
                place=str(taken[0]),
                remedy="Choose another name." if self.overwrite else FREE,
            )

    def taken(self) -> bool:
        """Whether an export stands there that may give way."""
        return self.wrote(self.path) if self._is_file else self._is_export(self.path)

    @contextmanager
    def written(self) -> Iterator[Path]:
        """The file to write, in hiding; it takes its place when the block ends well, else what stood there stays."""
        if self._is_file:
            with settled(self.path) as hidden:
                yield hidden
                alone = not hidden.with_suffix(self.data).exists()
            if alone:  # an earlier, larger export may have left it
                self.path.with_suffix(self.data).unlink(missing_ok=True)
            return
        with new_folder(self.path, self._gives_way) as part:
            yield part / self._name

    def note(self, file: Path, recipe: str) -> None:
        """Put the recipe beside the ``file`` that is written, where the folder is the export's own."""
        if not self._is_file:
            atomic_write(file.with_name(RECIPE), recipe)

    def files(self) -> tuple[Path, ...]:
        """What was written, the file to load first."""
        own = self._files(self.path) if self._is_file else self._all(self.path)
        return tuple(file for file in own if file.exists())

    @property
    def _is_file(self) -> bool:
        return self.path.suffix == self.suffix

    @property
    def _name(self) -> str:
        return f"{STEM}{self.suffix}"

    def _is_export(self, folder: Path) -> bool:
        first = folder / self._name
        return first.is_file() and self.wrote(first) and set(folder.iterdir()) <= {*self._all(folder)}

    def _gives_way(self, folder: Path) -> bool:
        return self.overwrite and self._is_export(folder)

    def _all(self, folder: Path) -> tuple[Path, ...]:
        """All that an export leaves in its folder."""
        return *self._files(folder / self._name), folder / RECIPE

    def _files(self, first: Path) -> tuple[Path, Path]:
        """A file, and where the weights go that do not lie in it."""
        return first, first.with_suffix(self.data)
