"""Times a Lab on a VGGT of released size with random weights, step by step, with its memory. It asserts nothing.

    python benchmarks/released_size.py [--model FILE] [--dtype bfloat16] [--threads 2] [--json FILE]

Two rendered pictures of 518 x 392 are both calibration and evaluation, as in the app. Random weights make meaningless
clouds; time and memory do not depend on the values. Without ``--model`` the 5 GB file is made and removed again.
Memory is that of the process over what it had after its imports: anonymous pages apart from mapped ones (the weights,
which the system can drop at any time). The peak of each step is sampled every 50 ms. On a busy machine the CPU
seconds of the process are the figure to trust.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from load_memory import resident, write_random

KINDS = ("RssAnon", "RssFile")
EDITED = "aggregator.global_blocks.{}.mlp.fc2"


class Meter:
    """Runs steps, and keeps seconds, memory and the longest silence between two checks of the job of each."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._report = report
        self._base = {kind: resident(kind) for kind in KINDS}
        self.records: list[dict[str, Any]] = []

    def step(self, name: str, work: Callable[[Any], Any]) -> Any:
        """Run ``work(job)`` and tell what it took."""
        from quantlab.jobs import Job

        job = _Watched(Job)
        with _peaks() as peaks:
            begun, busy = time.perf_counter(), time.process_time()
            job.last, job.last_busy = begun, busy
            result = work(job.job)
            job.tick()
            seconds, busy = time.perf_counter() - begun, time.process_time() - busy
        record = {
            "step": name,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(busy, 1),
            "longest_unheard_stop_s": round(job.longest, 2),
            "in_cpu_seconds": round(job.busiest, 2),
            "around": job.place,
            "falls_back": job.falls,
            "anonymous_gb": round((resident("RssAnon") - self._base["RssAnon"]) / 1e9, 2),
            "peak_anonymous_gb": round((peaks["RssAnon"] - self._base["RssAnon"]) / 1e9, 2),
            "peak_mapped_gb": round((peaks["RssFile"] - self._base["RssFile"]) / 1e9, 2),
        }
        self.records.append(record)
        self._report(record)
        return result


class _Watched:
    """A job that notes the longest time between two of its checks: how long a click on Stop may go unheard."""

    def __init__(self, kind: type) -> None:
        watched = self

        class Listening(kind):  # type: ignore[misc]
            @property
            def cancelled(self) -> bool:
                watched.tick(self.progress.text)
                return super().cancelled  # type: ignore[no-any-return]

        self.last, self.longest, self.place, self.falls, self._fraction = 0.0, 0.0, "", 0, 0.0
        self.last_busy, self.busiest = 0.0, 0.0
        self.job = Listening(self._heard)
        stop = self.job._stop  # noqa: SLF001 - parts of a job share it, and nothing else is asked by all

        class Event(type(stop)):  # type: ignore[misc]
            def is_set(self) -> bool:
                watched.tick(watched.job.progress.text)
                return super().is_set()  # type: ignore[no-any-return]

        self.job._stop = Event()  # noqa: SLF001

    def _heard(self, job: Any) -> None:
        self.falls += job.fraction < self._fraction - 1e-9
        self._fraction = job.fraction

    def tick(self, place: str = "end") -> None:
        now, busy = time.perf_counter(), time.process_time()
        if busy - self.last_busy > self.busiest:
            self.place = place
        self.longest = max(self.longest, now - self.last)
        self.busiest = max(self.busiest, busy - self.last_busy)
        self.last, self.last_busy = now, busy


@contextlib.contextmanager
def _peaks() -> Iterator[dict[str, int]]:
    """The largest resident sizes while the context lasts."""
    peaks, done = {kind: resident(kind) for kind in KINDS}, threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for kind in KINDS:
                peaks[kind] = max(peaks[kind], resident(kind))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def measure(model: Path, *, dtype: str, preset: str, steps: set[str]) -> list[dict[str, Any]]:
    """Open, profile, plan, run, edit, evaluate, compare, look at a layer, diagnose."""
    import torch  # noqa: F401

    import quantlab
    from quantlab.lab import Lab
    from quantlab.scenes.synthetic import rooms

    scene = rooms(1, views=2, size=(392, 518))[0]
    meter = Meter(lambda record: print(json.dumps(record), flush=True))
    loaded = meter.step("load", lambda _job: quantlab.load_model(model, dtype=dtype))
    recipe = quantlab.Recipe.preset(preset, weights=4, activations=4)
    lab = meter.step("lab", lambda _job: Lab(loaded, evaluation=[scene], recipe=recipe))
    depth = len(loaded.network.aggregator.global_blocks)
    edited = EDITED.format(depth // 2)
    todo: dict[str, Callable[[Any], Any]] = {
        "plan": lambda _job: lab.plan(),
        "profile": lambda job: lab.profile(job=job),
        "reference": lambda job: lab.reference(job=job),
        "compare": lambda job: lab.compare(job=job),
        "evaluate": lambda job: lab.evaluate(job=job),
        "layer": lambda job: lab.layer(edited, job=job),
        "diagnose": lambda job: lab.diagnose(job=job),
        "edit": lambda _job: lab.set(edited, rotation="hadamard", smoothing=0.5),
        "compare_edited": lambda job: lab.compare(job=job),
        "evaluate_edited": lambda job: lab.evaluate(job=job),
        "layer_edited": lambda job: lab.layer(edited, job=job),
        "diagnose_edited": lambda job: lab.diagnose(job=job),
    }
    for name, work in todo.items():
        if not steps or name in steps:
            meter.step(name, work)
            if name == "edit":
                print(json.dumps({"estimate": str(lab.estimate())}), flush=True)
    return meter.records


def main() -> None:
    """Make the file where there is none, measure, print one JSON record a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="a checkpoint; by default random weights in a temporary folder"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--preset", default="rtn")
    parser.add_argument("--steps", nargs="*", default=[], help="only these")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    import torch

    torch.set_num_threads(chosen.threads)
    with contextlib.ExitStack() as stack:
        model = chosen.model
        if model is None:
            model = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "random.safetensors"
            write_random(model)
        records = measure(model, dtype=chosen.dtype, preset=chosen.preset, steps=set(chosen.steps))
    if chosen.json:
        chosen.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
