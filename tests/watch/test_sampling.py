"""What follows from looking again and again; time is what the test says."""

import pytest

from persipubsub.watch.sampling import QueueView, Reading, State, Track
from tests.watch.support import statistics, subscriber


def test_nothing_is_known_before_the_first_look() -> None:
    view = Track("frames", "/queues/frames").view()
    assert (view.state, view.known, view.problem) == (State.BUSY, False, "not read yet")


def test_rates_are_differences_over_time() -> None:
    track = Track("frames", "/queues/frames")
    first = track.add(Reading(at=10.0, statistics=statistics(subscriber(settled=5), published=100)))
    assert (first.rate_in, first.rate_out, first.subscribers[0].rate_out) == (None, None, None)
    second = track.add(Reading(at=12.0, statistics=statistics(subscriber(settled=11), published=150)))
    assert (second.rate_in, second.rate_out, second.subscribers[0].rate_out) == (25.0, 3.0, 3.0)
    assert second.times == [10.0, 12.0]
    assert second.rate_history == [None, 25.0]


def test_two_looks_at_one_moment_give_no_rate() -> None:
    track = Track("frames", "/")
    track.add(Reading(at=10.0, statistics=statistics(published=1)))
    assert track.add(Reading(at=10.0, statistics=statistics(published=2))).rate_in is None


def test_a_subscriber_that_was_added_again_has_no_negative_rate() -> None:
    track = Track("frames", "/")
    track.add(Reading(at=1.0, statistics=statistics(subscriber(settled=100), subscriber("b", settled=1))))
    view = track.add(Reading(at=2.0, statistics=statistics(subscriber(settled=0), subscriber("b", settled=4))))
    assert [one.rate_out for one in view.subscribers] == [None, 3.0]
    assert view.rate_out == 3.0


def test_histories_are_as_long_as_times_whoever_came_and_went() -> None:
    track = Track("frames", "/", history=3)
    view = QueueView(name="", location="", state=State.OK, problem=None, at=0)
    for at in range(5):
        there = [subscriber("a", waiting=at)] + ([subscriber("late", waiting=9)] if at >= 3 else [])
        view = track.add(Reading(at=float(at), statistics=statistics(*there)))
    assert view.times == [2.0, 3.0, 4.0]
    assert [one.lag_history for one in view.subscribers] == [[2, 3, 4], [0, 9, 9]]
    assert view.lag_history == [2, 9, 9]
    assert view.lag == 9


def test_a_queue_that_cannot_be_read_keeps_what_was_known() -> None:
    track = Track("frames", "/")
    track.add(Reading(at=1.0, statistics=statistics(messages=7), free_bytes=99))
    view = track.add(Reading(at=2.0, state=State.BUSY, problem="no answer"))
    assert (view.state, view.problem, view.messages, view.free_bytes) == (State.BUSY, "no answer", 7, 99)
    assert view.times == [1.0]


def test_a_queue_that_is_gone_is_forgotten() -> None:
    track = Track("frames", "/")
    track.add(Reading(at=1.0, statistics=statistics(messages=7)))
    view = track.add(Reading(at=2.0, state=State.GONE, problem="nothing is deployed here"))
    assert (view.known, view.messages, view.times) == (False, 0, [])


def test_another_queue_at_the_same_place_starts_anew() -> None:
    track = Track("frames", "/")
    track.add(Reading(at=1.0, statistics=statistics(published=700)))
    view = track.add(Reading(at=2.0, statistics=statistics(identity="two", published=900)))
    assert (view.times, view.rate_in) == ([2.0], None)


# -- how late subscribers are -----------------------------------------------------------------------


def late(track: Track, at: float, position: int, *, waiting: int = 1, **figures: object) -> float | None:
    reading = Reading(at=at, statistics=statistics(subscriber(position=position, waiting=waiting), **figures))
    return track.add(reading).subscribers[0].late


def test_nobody_is_late_who_has_nothing_to_take() -> None:
    assert late(Track("", ""), 50.0, 1, waiting=0, first_id=1, last_id=9, oldest_age=30.0) == 0.0


def test_the_oldest_message_is_as_late_as_it_is_old() -> None:
    assert late(Track("", ""), 50.0, 1, first_id=1, last_id=11, oldest_age=30.0) == 30.0
    # Pruned: it continues with what is left.
    assert late(Track("", ""), 50.0, 1, first_id=5, last_id=11, oldest_age=20.0) == 20.0


def test_before_the_first_look_messages_came_evenly() -> None:
    assert late(Track("", ""), 50.0, 6, first_id=1, last_id=11, oldest_age=30.0) == pytest.approx(15.0)


def test_ids_are_remembered_with_the_time_they_came() -> None:
    track = Track("", "")
    late(track, 10.0, 1, first_id=1, last_id=100, oldest_age=1.0)
    late(track, 20.0, 1, first_id=1, last_id=100, oldest_age=11.0)
    late(track, 30.0, 1, first_id=1, last_id=200, oldest_age=21.0)
    # The first hundred had come at 10, the second between 20 and 30.
    assert late(track, 40.0, 100, first_id=1, last_id=200, oldest_age=31.0) == pytest.approx(30.0)
    assert late(track, 40.0, 150, first_id=1, last_id=200, oldest_age=31.0) == pytest.approx(15.0)
    assert late(track, 40.0, 200, first_id=1, last_id=200, oldest_age=31.0) == pytest.approx(10.0)


def test_how_late_what_was_given_back_is_cannot_be_told() -> None:
    assert late(Track("", ""), 50.0, 12, first_id=1, last_id=11, oldest_age=30.0) is None
    assert late(Track("", ""), 50.0, 12) is None
