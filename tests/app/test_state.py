"""One lab a tab: kept through a reload, freed after it, never another's, never too many."""

from __future__ import annotations

import pytest

from quantlab.app.state import MOST_CLOUDS, Results, Session, Store
from quantlab.errors import DeviceError, JobCancelledError, QuantLabError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return Store(most=2, grace=10, clock=clock)


def test_two_pages_get_two_labs(store):
    assert store.join("a") is not store.join("b")


def test_a_page_that_knows_the_handle_of_an_open_tab_does_not_get_its_lab(store):
    first = store.join("a")
    assert store.join("b", first.handle) is not first


def test_a_reloaded_page_finds_its_lab_by_the_handle(store):
    first = store.join("a")
    store.leave("a")
    assert store.join("b", first.handle) is first
    assert store.of("b") is first


def test_a_lab_is_freed_when_its_tab_stays_away(store, clock):
    session = store.join("a")
    job = session.begin()
    session.keep_cloud(b"cloud")
    store.leave("a")
    clock.now = 11
    store.sweep()
    assert len(store) == 0
    assert job.cancelled
    with pytest.raises(QuantLabError, match="Reload"):
        store.of("a")


def test_a_sign_of_life_keeps_the_lab(store, clock):
    session = store.join("a")
    store.leave("a")
    clock.now = 5
    assert store.of("a") is session
    clock.now = 60
    store.sweep()
    assert len(store) == 1


def test_a_full_house_frees_the_tab_that_left_first_and_never_one_in_use(store, clock):
    store.join("a")
    used = store.join("b")
    store.leave("a")
    clock.now = 1
    store.join("c")
    assert store.of("b") is used
    with pytest.raises(DeviceError, match="Close a tab"):
        store.join("d")


def test_clouds_are_found_only_with_the_handle_and_the_newest_are_kept(store):
    session = store.join("a")
    names = [session.keep_cloud(bytes([index])) for index in range(MOST_CLOUDS + 1)]
    assert store.named(session.handle) is session
    assert session.cloud(names[0]) is None
    assert session.cloud(names[-1]) == bytes([MOST_CLOUDS])
    assert store.named("guess") is None


def test_a_new_job_stops_the_one_before():
    session = Session()
    first = session.begin()
    second = session.begin()
    assert first.cancelled
    assert not second.cancelled
    session.end(first)
    assert session.job is second


def test_what_a_stopped_job_still_found_is_not_taken_in():
    session = Session()
    job = session.begin()
    session.stop()
    with pytest.raises(JobCancelledError):
        session.learn(job, evaluation="of another recipe")
    assert session.results.evaluation is None


def test_results_age_once_a_change_and_skip_states_that_were_never_measured():
    measured = Results(profile="p", evaluation="one", comparison="c")
    once = measured.aged()
    assert (once.profile, once.evaluation, once.former.evaluation) == ("p", None, "one")
    assert once.aged().former.evaluation == "one"
    assert once.former.former is None


def test_a_page_that_says_hello_again_keeps_its_lab(store):
    assert not store.knows("a")
    first = store.join("a")
    assert store.knows("a")
    assert store.join("a") is first
    assert len(store) == 1
