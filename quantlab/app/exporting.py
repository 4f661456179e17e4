"""What happens when a person takes the quantized model away: a folder on this machine. It writes no tensor itself.

A page gives a name, never a path: everything lands in one folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.app.changing import Message, Verb
from quantlab.app.kept import file_name
from quantlab.app.measure import panels
from quantlab.app.running import follow, run_job
from quantlab.app.work import Emit, Parts
from quantlab.figures.readable import short, size

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.jobs import Job
    from quantlab.lab import Lab

FOLDER = "QUANTLAB_EXPORTS"
"""Variable of the environment that names the folder; without it, "exports" where the app was started."""


def exports() -> Path:
    """Where exported models go."""
    return Path(os.environ.get(FOLDER, "exports"))


def _packed(lab: Lab, folder: Path, job: Job) -> dict[str, str]:
    made = lab.export(folder, job=job)
    drift = made.drift
    about = [f"{short(made.full_bytes / made.bytes, 2)}× smaller than float32"]
    if drift is not None:
        about.append(
            f"off what is simulated by {short(drift.outputs, 2)}" if drift.outputs else "as simulated"
        )
    return _told(made.folder, made.bytes, about, f'model = ql.load_model("{made.folder}")')


def _deployed(target: str) -> Callable[[Lab, Path, Job], dict[str, str]]:
    def write(lab: Lab, folder: Path, job: Job) -> dict[str, str]:
        from quantlab.deploy import export

        made = export(lab, target, folder, job=job)
        pictures = " × ".join(map(str, made.shape))
        about = [
            f"{short(made.full_bytes / made.bytes, 2)}× smaller than float32",
            f"off what is simulated by {short(made.max_error, 2)}, takes {pictures}",
        ]
        return _told(made.paths[0], made.bytes, about, str(made.paths[0]))

    return write


TARGETS: Mapping[str, Callable[[Lab, Path, Job], dict[str, str]]] = {
    "packed": _packed,
    "onnx": _deployed("onnx"),
    "openvino": _deployed("openvino"),
}


def _told(path: Path, count: int, about: list[str], code: str) -> dict[str, str]:
    return {"path": str(path), "about": f"{' '.join(size(count))}, {', '.join(about)}", "code": code}


def _export(session: Session, message: Message) -> Iterator[Parts]:
    """Write the model as the recipe has it, after what runs."""
    target = TARGETS.get(str(message.get("target")))
    if session.lab is None or target is None:
        return
    name = file_name(str(message.get("name", ""))[:80], ending="")
    yield from follow(session, "recipe")
    if session.job is not None:
        return

    def work(session: Session, emit: Emit, job: Job) -> None:
        exports().mkdir(parents=True, exist_ok=True)
        session.exported = target(session.open_lab(), exports() / name, job)
        emit(panels(session, "recipe"))

    yield from run_job(session, work)


VERBS: dict[str, Verb] = {"export": _export}
