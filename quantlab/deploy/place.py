"""Where an export goes: a folder or a file that is new, or whose earlier export may give way. It knows no formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quantlab.deploy.files import settled
from quantlab.errors import StorageError
from quantlab.packed.folder import FREE, new_folder, require_free
from quantlab.storage import check_writable

STEM = "model"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that holds one export and nothing else, or a file of the target's ending.

    Attributes:
        path: Which.
        suffix: Of the target's files; a path that ends in it is a file.
        data: In its stead, of the file beside it that holds weights, where there is one.
        replaces: Whether a file of that ending may give way.
    """

    path: Path
    suffix: str
    data: str
    replaces: Callable[[Path], bool]

    def require_free(self) -> None:
        """Find out before long work, not after it, that nothing can be written there.

        Raises:
            StorageError: Something stands there that may not be replaced, or the folder around it is missing.
        """
        if not self._is_file:
            require_free(self.path, self._is_export)
            return
        check_writable(self.path)
        taken = [file for file in self._files(self.path) if file.exists()]
        if taken and not self.replaces(self.path):
            raise StorageError("a file of this name exists", place=str(taken[0]), remedy=FREE)

    def taken(self) -> bool:
        """Whether an export stands there that may give way."""
        return self.replaces(self.path) if self._is_file else self._is_export(self.path)

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
        with new_folder(self.path, self._is_export) as part:
            yield part / self._name

    def files(self) -> tuple[Path, ...]:
        """What was written, the file to load first."""
        first = self.path if self._is_file else self.path / self._name
        return tuple(file for file in self._files(first) if file.exists())

    @property
    def _is_file(self) -> bool:
        return self.path.suffix == self.suffix

    @property
    def _name(self) -> str:
        return f"{STEM}{self.suffix}"

    def _is_export(self, folder: Path) -> bool:
        first = folder / self._name
        if not first.is_file() or not self.replaces(first):
            return False
        return set(folder.iterdir()) <= {*self._files(first)}

    def _files(self, first: Path) -> tuple[Path, Path]:
        """A file, and where the weights go that do not lie in it."""
        return first, first.with_suffix(self.data)
