"""The errors a user can cause: each says what is wrong, where, and what to do. Bugs stay plain exceptions."""

from __future__ import annotations


class QuantLabError(Exception):
    """What went wrong, where, and what to do about it.

    Args:
        problem: One sentence without a full stop, in the user's words.
        place: The file, layer, setting or image the problem sits in.
        remedy: One imperative sentence.
    """

    def __init__(self, problem: str, *, place: str = "", remedy: str = "") -> None:
        self.problem = _one_line(problem)
        self.place = _one_line(place)
        self.remedy = _one_line(remedy)
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        what_to_do = f" {self.remedy}" if self.remedy else ""
        return f"{self.problem}{where}.{what_to_do}"


class CheckpointError(QuantLabError):
    """A weight file that is damaged, hostile, or made for another model."""


class SceneError(QuantLabError):
    """Images, videos or scene descriptions that cannot be used."""


class RecipeError(QuantLabError):
    """A recipe or a setting that is malformed or cannot be carried out."""


class NumericError(QuantLabError):
    """A NaN, an infinity or a degenerate value where arithmetic needs a proper one."""


class DeviceError(QuantLabError):
    """A device, a dtype or an amount of memory that this machine does not have."""


class StorageError(QuantLabError):
    """A file or folder that cannot be written or read."""


class MissingLibraryError(QuantLabError):
    """An optional library, or a system library it links, is absent."""


class JobCancelledError(QuantLabError):
    """The user stopped the job; the former state is kept."""


def shortened(text: str, most: int = 300) -> str:
    """The beginning of a text for a refusal, which a very long one would drown, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _one_line(text: str) -> str:
    """Escape line breaks and control characters, so that a file name cannot forge log lines."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
