"""Topics and filters, by the rules of NATS."""

import pytest

from persipubsub import Draft, IdentifierError, SettingsMismatchError, Strategy, SubscriberSettings
from tests.contract.support import Queue, ids_of, rest


def filtered(**filters: str | None) -> dict[str, SubscriberSettings]:
    return {name: SubscriberSettings(topic_filter=topic_filter) for name, topic_filter in filters.items()}


RULES = [
    ("a.b", ["a.b"]),
    ("a.*", ["a.b", "a.c"]),
    ("*.b", ["a.b", "x.b", "A.b"]),
    ("*", ["a", "ab"]),
    ("a.>", ["a.b", "a.c", "a.b.c"]),
    (">", ["a", "a.b", "a.c", "x.b", "a.b.c", "A.b", "ab"]),
    ("*.*", ["a.b", "a.c", "x.b", "A.b"]),
    ("a.*.c", ["a.b.c"]),
    ("a*", []),
    ("nowhere", []),
]
TOPICS = ["a", "a.b", "a.c", "x.b", "a.b.c", None, "A.b", "ab"]


@pytest.mark.parametrize(("topic_filter", "expected"), RULES)
def test_a_filter_takes_what_matches(queue: Queue, topic_filter: str, expected: list[str]) -> None:
    queue.deploy(filtered(a=topic_filter, everything=None))
    queue.pub.send_many([Draft(b"x", topic=topic) for topic in TOPICS])
    with queue.sub().messages(timeout=0) as messages:
        assert [message.topic for message in messages] == [topic for topic in TOPICS if topic in expected]
    with queue.sub("everything").messages(timeout=0) as messages:
        assert [message.topic for message in messages] == TOPICS
    assert queue.retained() == []


@pytest.mark.needs("any_size")
def test_what_does_not_match_is_passed_without_a_trace(queue: Queue) -> None:
    queue.deploy(filtered(a="wanted"))
    queue.pub.send_many([b"x"] * 2500)
    queue.send(b"wanted", topic="wanted")
    assert queue.figures().waiting == 2501  # an upper bound
    message = queue.take()
    assert message.id == 2501
    figures = queue.figures()
    assert (figures.deliveries, figures.settled, figures.lost, figures.leased, figures.waiting) == (1, 0, 0, 1, 0)
    assert queue.retained() == [2501]


def test_nothing_but_what_does_not_match(queue: Queue) -> None:
    queue.deploy(filtered(a="wanted"))
    queue.pub.send_many([b"x"] * 5)
    assert queue.sub().get(timeout=0) is None
    assert queue.figures().lag == 0
    assert queue.retained() == []


def test_the_newest_that_matches(queue: Queue) -> None:
    queue.deploy(filtered(a="wanted"))
    queue.send(b"1", b"2", topic="wanted")
    queue.send(b"3", topic="other")
    queue.send(b"4")
    with queue.sub().receive_to_top(timeout=0) as data:
        assert data == b"2"
    assert rest(queue.sub()) == []


def test_peek_shows_what_matches(queue: Queue) -> None:
    queue.deploy(filtered(a="wanted"))
    queue.fill(3)
    queue.send(b"4", topic="wanted")
    seen = queue.sub().peek()
    assert seen is not None
    assert seen.id == 4
    assert queue.figures().position == 1


@pytest.mark.needs("keeps_unmatched")
def test_a_filter_is_kept_with_the_subscriber_and_changed_by_configure(queue: Queue) -> None:
    queue.deploy([])
    control = queue.control
    control.add_subscriber("a", topic_filter="x.*")
    assert control.subscribers["a"].topic_filter == "x.*"
    with pytest.raises(SettingsMismatchError, match=r"x\.\*"):
        control.add_subscriber("a", topic_filter="y")
    control.add_subscriber("a")  # says nothing about the filter
    queue.send(b"1", topic="x.1")
    queue.send(b"2", topic="y")
    control.configure_subscriber("a", topic_filter="y")
    assert ids_of(queue.sub().get_many(5, timeout=0)) == [2]
    control.configure_subscriber("a", topic_filter=None)
    queue.send(b"3")
    assert rest(queue.sub())[-1] == b"3"


@pytest.mark.needs("keeps_unmatched")
def test_limits_take_what_does_not_match_too(queue: Queue) -> None:
    queue.deploy(filtered(a="wanted"), max_messages=4, strategy=Strategy.PRUNE_FIRST)
    queue.fill(3)
    queue.send(b"wanted", topic="wanted")
    queue.fill(1)
    assert queue.retained() == [3, 4, 5]
    assert rest(queue.sub()) == [b"wanted"]


@pytest.mark.parametrize(
    "topic",
    ["", ".", "a.", ".a", "a..b", "a b", "a.\tb", "a.*", ">", "a.>", "a\0b", "\ud800", "x" * 256, 5, b"bytes"],
    ids=ascii,
)
def test_a_malformed_topic_is_refused(queue: Queue, topic: str) -> None:
    queue.deploy()
    with pytest.raises(IdentifierError, match="topic"):
        queue.pub.send(b"x", topic=topic)
    with pytest.raises(IdentifierError, match="topic"):
        queue.pub.send_many([b"good", Draft(b"x", topic=topic)])
    assert queue.statistics().published == 0


@pytest.mark.parametrize("topic", ["x" * 255, "é.ü", "a*b.c>d", "$SYS.a-b_c", "日本.語"])
def test_a_good_topic_comes_back(queue: Queue, topic: str) -> None:
    queue.deploy(filtered(a=topic if "*" not in topic else ">"))
    queue.send(b"x", topic=topic)
    assert queue.take().topic == topic


@pytest.mark.parametrize(
    "topic_filter", ["", ".", "a.", "a..b", ">.a", "a.>.b", "a b", "a\nb", "\ud800", "x" * 256, 5], ids=ascii
)
def test_a_malformed_filter_is_refused(queue: Queue, topic_filter: str) -> None:
    queue.deploy()
    with pytest.raises(IdentifierError, match="filter"):
        queue.control.add_subscriber("b", topic_filter=topic_filter)
    with pytest.raises(IdentifierError, match="filter"):
        queue.control.configure_subscriber("a", topic_filter=topic_filter)
    assert queue.control.subscribers == {"a": SubscriberSettings()}
