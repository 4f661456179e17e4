"""Laws of jobs: cancelling stops at the next check, parts fill their slice, watchers see every report."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.errors import JobCancelledError, QuantLabError
from quantlab.jobs import Job, check, divided, part, step


def test_a_new_job_has_done_nothing() -> None:
    job = Job()
    assert job.progress == (0, 0, "")
    assert job.fraction == 0
    job.check()


@given(done=st.integers(0, 50), total=st.integers(0, 40))
def test_the_fraction_is_the_share_of_steps_and_never_leaves_0_to_1(done: int, total: int) -> None:
    job = Job()
    job.report(done, total, "x")
    assert job.progress == (done, total, "x")
    assert 0 <= job.fraction <= 1
    if total > 0 and done <= total:
        assert job.fraction == done / total


def test_a_cancelled_job_stops_at_its_next_check_and_says_where() -> None:
    job = Job()
    job.report(2, 5, "frame_blocks.2")
    job.cancel()
    job.cancel()
    with pytest.raises(JobCancelledError) as caught:
        job.check()
    assert isinstance(caught.value, QuantLabError)
    assert caught.value.place == "frame_blocks.2"
    assert job.cancelled


def test_cancel_from_another_thread_reaches_the_worker() -> None:
    job, started = Job(), threading.Event()
    stopped: list[bool] = []

    def work() -> None:
        try:
            while True:
                job.check()
                started.set()
        except JobCancelledError:
            stopped.append(True)

    worker = threading.Thread(target=work)
    worker.start()
    assert started.wait(5)
    job.cancel()
    worker.join(5)
    assert stopped == [True]


def test_the_listener_sees_every_report() -> None:
    seen: list[tuple[tuple[int, int, str], float]] = []
    job = Job(lambda job: seen.append((job.progress, job.fraction)))
    for done in range(3):
        job.report(done, 2, f"step {done}")
    assert seen == [((0, 2, "step 0"), 0.0), ((1, 2, "step 1"), 0.5), ((2, 2, "step 2"), 1.0)]


@given(low=st.floats(0, 0.5), width=st.floats(0, 0.5), inner=st.floats(0, 0.5), done=st.integers(0, 8))
def test_nested_parts_fill_their_slice_of_the_whole(
    low: float, width: float, inner: float, done: int
) -> None:
    job = Job()
    job.part(low, low + width).part(inner, 1.0).report(done, 8, "deep")
    expected = low + width * (inner + (1 - inner) * done / 8)
    assert job.fraction == pytest.approx(expected)
    assert job.progress == (done, 8, "deep")


def test_cancelling_the_whole_stops_its_parts_and_the_other_way_round() -> None:
    whole = Job()
    section = whole.part(0, 0.5)
    section.cancel()
    for job in (whole, section, whole.part(0.5, 1)):
        with pytest.raises(JobCancelledError):
            job.check()


def test_helpers_do_nothing_without_a_job() -> None:
    check(None)
    step(None, 1, 2, "x")
    assert part(None, 0, 2) is None


def test_step_checks_before_it_reports() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(JobCancelledError):
        step(job, 1, 2, "x")
    assert job.progress == (0, 0, "")


def test_equal_parts_cover_the_whole() -> None:
    job = Job()
    for index in range(4):
        section = part(job, index, 4)
        assert section is not None
        section.report(0, 1)
        assert job.fraction == pytest.approx(index / 4)
        section.report(1, 1)
        assert job.fraction == pytest.approx((index + 1) / 4)


@given(weights=st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_the_slices_of_a_divided_job_lie_end_to_end_and_are_as_wide_as_their_weights(
    weights: list[float],
) -> None:
    job, end = Job(), 0.0
    for weight, piece in zip(weights, divided(job, *weights), strict=True):
        assert piece is not None
        piece.report(0, 1)
        assert job.fraction == pytest.approx(end)
        piece.report(1, 1)
        end += weight / (sum(weights) or 1.0)
        assert job.fraction == pytest.approx(end)
    assert divided(None, *weights) == (None,) * len(weights)
