"""What happens when a person takes the quantized model away: a folder on this machine. It writes no tensor itself.

A page gives a name, never a path: everything lands in one folder, a runtime's export beside the packed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab import deploy
from quantlab.app.changing import Message, Verb
from quantlab.app.export_place import Asked, exports
from quantlab.app.measure import panels
from quantlab.app.running import follow, run_job
from quantlab.app.status import status
from quantlab.app.work import Emit, Parts
from quantlab.errors import RecipeError
from quantlab.figures.readable import short, size

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.jobs import Job
    from quantlab.lab import Lab

STANDS = "An earlier export stands there. Overwrite replaces it once the new one is whole; another name keeps both."
UNTICKED = (
    "Tick the box below the name of the folder: the file is made from the nearest recipe that it holds then."
)


def _packed(lab: Lab, asked: Asked, job: Job) -> dict[str, str]:
    made = lab.export(asked.folder, overwrite=asked.overwrite, job=job)
    about = [smaller(made.bytes, made.full_bytes)]
    if made.drift is not None:
        about.append(made.drift.told())
    folder = made.folder.absolute()
    code = f'import quantlab as ql\nmodel = ql.load_model("{folder}")'
    return _told(asked, folder, made.bytes, about, code)


def _deployed(lab: Lab, asked: Asked, job: Job) -> dict[str, str]:
    recipe = deploy.fitted(lab.recipe, lab.structure) if asked.static else lab.recipe
    try:
        made = deploy.export(
            lab, asked.target, asked.folder, recipe=recipe, overwrite=asked.overwrite, job=job
        )
    except RecipeError as error:
        if asked.static or not deploy.changes(recipe, lab.structure):
            raise
        raise RecipeError(error.problem, place=error.place, remedy=UNTICKED) from None
    beside = smaller(made.bytes, made.full_bytes)
    off = f"off full precision by {_percent(made.rounding)}, off the simulation by {_percent(made.errors)}"
    takes = f"takes inputs of {'×'.join(map(str, made.shape))}"
    otherwise = [deploy.differs(lab.recipe, lab.structure)] if recipe != lab.recipe else []
    path = made.paths[0].absolute()
    return _told(
        asked, path, made.bytes, [beside, *otherwise, off, takes], deploy.snippet(asked.target, path)
    )


def smaller(count: int, full: int) -> str:
    """How its size compares with the same in float32: "2.2× smaller", "as large" or "1.3× larger"."""
    ratio, word = (full / count, "smaller") if count <= full else (count / full, "larger")
    told = short(ratio, 2)
    return "as large as float32" if told == "1" else f"{told}× {word} than float32"


def _percent(errors: Mapping[str, float]) -> str:
    """The largest error of an output."""
    return f"{short(100 * max(errors.values(), default=0.0), 2)} %"


TARGETS: Mapping[str, Callable[[Lab, Asked, Job], dict[str, str]]] = {
    "packed": _packed,
    "onnx": _deployed,
    "openvino": _deployed,
}


def _told(asked: Asked, path: Path, count: int, about: list[str], code: str) -> dict[str, str]:
    said = f"{' '.join(size(count))}, {', '.join(about)}"
    return {"path": str(path), "name": asked.stem, "about": said, "code": code}


def _export(session: Session, message: Message) -> Iterator[Parts]:
    """Write the model as the recipe has it, after what runs; of an earlier export, ask first whether it may go."""
    target = str(message.get("target"))
    if session.lab is None or target not in TARGETS:
        return
    flags = {name: message.get(name) is True for name in ("static", "overwrite")}
    asked = Asked(target, str(message.get("name", "")), **flags)
    yield from follow(session, "recipe")
    if session.job is not None:
        return
    session.exported = {}
    yield panels(session, "recipe")
    asked.check()
    if asked.stands and not asked.overwrite:
        session.message = {}
        session.exported = {"path": str(asked.folder), "about": STANDS, "target": target}
        yield {"status": status(session), **panels(session, "recipe")}
        return

    def work(session: Session, emit: Emit, job: Job) -> None:
        exports().mkdir(parents=True, exist_ok=True)
        session.exported = TARGETS[target](session.open_lab(), asked, job)
        emit(panels(session, "recipe"))

    yield from run_job(session, work, first=lambda: panels(session, "recipe"))


VERBS: dict[str, Verb] = {"export": _export}
