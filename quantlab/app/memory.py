"""What a browser tab keeps of its lab, so that history and undo outlive the server: text alone. It opens nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quantlab.engine.session_file import to_text
from quantlab.engine.session_notes import describe
from quantlab.views.link import pack

if TYPE_CHECKING:
    from quantlab.app.state import Session

LONGEST = 500_000
"""Characters; a history that packs to more is cut to its latest recipes."""
LATEST = 20
FAST = 6
"""Level of compression: the memory is made at every change."""


def memory_panel(session: Session) -> dict[str, Any]:
    """The session as packed text: the model's name without its weights' digest, the scene, every recipe."""
    lab = session.open_lab()
    record = replace(describe(lab, digests=False), view={"layer": session.view.layer})
    record = replace(record, model=replace(record.model, name=session.model, path=""))
    text = pack(to_text(record, indent=None), level=FAST)
    if len(text) > LONGEST:
        first = max(0, record.position + 1 - LATEST)
        few = record.recipes[first : first + LATEST]
        text = pack(
            to_text(replace(record, recipes=few, position=record.position - first), indent=None), level=FAST
        )
    return {"text": text if len(text) <= LONGEST else ""}
