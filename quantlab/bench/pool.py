"""Several processes that measure cells at once; one that dies costs its cell, not the run. It measures nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from quantlab.bench.cells import Record, record, write
from quantlab.bench.work import FREE, Task, Worker, made, serve
from quantlab.errors import QuantLabError
from quantlab.jobs import Job, check

LOOK_SECONDS = 0.5
Told = Callable[[Record], None]


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_all(tasks: Sequence[Task], *, workers: int, told: Told, job: Job | None = None) -> None:
    """Measure all tasks, in processes of their own when there are several workers; each shares the cores evenly.

    Args:
        tasks: In the order they are begun.
        workers: Processes; 1 works in this one.
        told: Called with every record, in the order they end.
        job: Checked twice a second.

    Raises:
        StorageError: A file cannot be written.
        JobCancelledError: The job was cancelled; what was finished is on the disk.
    """
    if workers <= 1 or len(tasks) <= 1:
        worker = Worker()
        for task in tasks:
            check(job)
            told(worker.do(task))
        return
    with _hands(min(workers, len(tasks)), max(1, cores() // workers)) as hands:
        waiting = list(reversed(tasks))
        while waiting or any(hand.task for hand in hands):
            check(job)
            for hand in hands:
                if hand.task is None and waiting:
                    hand.give(waiting.pop())
            for ready in wait([hand.connection for hand in hands if hand.task], LOOK_SECONDS):
                told(next(hand for hand in hands if hand.connection is ready).take())


@dataclass(slots=True)
class _Hand:
    """A worker process, the line to it, and the task it is at."""

    threads: int
    process: BaseProcess
    connection: Connection
    task: Task | None = None

    def give(self, task: Task) -> None:
        """Have it measure a task; a process that died idle is replaced first."""
        try:
            self.connection.send(task)
        except OSError:
            self.renew()
            self.connection.send(task)
        self.task = task

    def take(self) -> Record:
        """What became of the task; where the process died of it, that is written as the cell's failure.

        Raises:
            QuantLabError: What the process could not write.
        """
        task, self.task = self.task, None
        if task is None:
            raise RuntimeError("a worker answered without a task")
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            return self._died(task)
        if isinstance(answer, QuantLabError):
            raise answer
        return answer

    def _died(self, task: Task) -> Record:
        self.process.join()
        code = self.process.exitcode
        what = (
            f"the process ended with signal {-code}"
            if code and code < 0
            else f"the process ended with {code}"
        )
        hint = " (out of memory?)" if code == -9 else ""
        failed = record(
            task.cell,
            seconds=0.0,
            made=made(task.command, self.threads, task.cell.protocol.device),
            reason=f"{what}{hint}",
        )
        write(failed, task.cell.path(task.folder))
        self.renew()
        return failed

    def renew(self) -> None:
        """A new process in the place of the old one."""
        self.end()
        self.process, self.connection = _start(self.threads)

    def end(self) -> None:
        """End the process; what it was at is lost."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


@contextlib.contextmanager
def _hands(count: int, threads: int) -> Iterator[list[_Hand]]:
    hands: list[_Hand] = []
    try:
        while len(hands) < count:  # those that started end in any case
            hands.append(_Hand(threads, *_start(threads)))
        yield hands
    finally:
        for hand in hands:
            hand.end()


def _start(threads: int) -> tuple[BaseProcess, Connection]:
    """A fresh process: spawned, since a forked one would inherit a torch with its locks and threads."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, threads), daemon=True)
    with _environment(threads):  # libraries read it while they are imported
        process.start()
    theirs.close()
    return process, ours


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in FREE}
    os.environ.update({name: str(threads) for name in FREE})
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
