"""Errors as the page says them. It shows nothing itself."""

from __future__ import annotations

import re
import sys
import traceback

from quantlab.errors import JobCancelledError, QuantLabError

STOPPED = {"problem": "Stopped", "remedy": "What was measured before is kept. Press Run to go on."}
_UPLOADED = re.compile(r"[^\s'\"()]*[\\/][0-9a-f]{64}[\\/]")
"""The folder Gradio keeps an upload in, named by a digest; a person knows only the name of the file."""
_WORD = re.compile(r"[a-z]+(?=[ ,:])")


def explain(error: Exception) -> dict[str, str]:
    """An error as the page shows it; a bug goes to the log in full."""
    if isinstance(error, JobCancelledError):
        return dict(STOPPED)
    if isinstance(error, QuantLabError):
        told = {"problem": error.problem, "place": error.place, "remedy": error.remedy}
        told = {name: _UPLOADED.sub("", text) for name, text in told.items()}
        return {**told, "problem": _as_sentence(told["problem"])}
    traceback.print_exception(error, file=sys.stderr)
    return {"problem": "QuantLab failed at this", "remedy": "The former state holds; the log says why."}


def _as_sentence(text: str) -> str:
    """With a capital, unless it begins with a name ("vggt-1b", "photo.jpg") that has none."""
    return text[:1].upper() + text[1:] if _WORD.match(text) else text
