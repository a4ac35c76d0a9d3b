"""Processes that wait to write at the same time share a commit, whoever of them dies meanwhile."""

import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from persipubsub import Draft, Durability, Environment
from persipubsub.engine.local import files, posts
from persipubsub.engine.local.bells import Bells
from persipubsub.engine.local.sharing import Carried, Sharing
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from tests.process import support
from tests.process.support import Child, ChildError, Children, Here, wait_until


def store_of(env: Environment) -> Store:
    engine: Any = env._connection.engine()
    store: Store = engine._store
    return store


def posted(path: pathlib.Path) -> int:
    """Return how many processes have posted something."""
    with open(path / files.POSTS, "rb") as stream:
        return stream.read(posts.SLOTS).count(1)


@pytest.fixture(params=[Durability.FULL, Durability.COMMIT], ids=["full", "commit"])
def path(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    folder = tmp_path / "queue"
    with Environment(folder) as env:
        env.new_control({"sub"}, durability=request.param)
    yield folder
    support.assert_sound(folder)


def publisher(children: Children, path: pathlib.Path) -> Child:
    child = children.new()
    child.do(support.open_publisher, path)
    return child


def lead_after(here: Here, asked: int, where: str = "nowhere") -> int:
    """Send as the one who has the write lock, once ``asked`` others have posted; be killed at a place if told to."""
    collect = Sharing.asked

    def collect_late(sharing: Sharing) -> list[Carried]:
        here.tell("has the lock")
        wait_until(lambda: sharing._store.posts.count() >= asked, "others post")
        setattr(Sharing, "asked", collect)  # noqa: B010
        return collect(sharing)

    def die(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Sharing, "asked", collect_late)  # noqa: B010
    if where == "before the commit":
        setattr(Work, "finish", die)  # noqa: B010
    elif where == "after the commit":
        setattr(Sharing, "note_commit", die)  # noqa: B010
    elif where == "before the wake-up":
        setattr(Bells, "ring", die)  # noqa: B010
    elif where == "after the answers":
        setattr(Sharing, "ring_next", die)  # noqa: B010
    elif where == "between the answers":
        answer = Sharing.answer
        answered: list[Carried] = []

        def answer_one(sharing: Sharing, carried: Carried, *, refused: bool) -> None:
            if answered:
                die()
            answered.append(carried)
            answer(sharing, carried, refused=refused)

        setattr(Sharing, "answer", answer_one)  # noqa: B010
    message_id: int = here.pub.send(b"of the leader")
    return message_id


def last_transaction(path: pathlib.Path) -> int:
    with Environment(path) as env:
        return store_of(env).last_transaction()


def payloads(path: pathlib.Path) -> list[bytes]:
    with Environment(path) as env:
        return [message.data for message in env.browse()]


def test_who_writes_carries_the_others_along(path: pathlib.Path, children: Children) -> None:
    leader, *others = [publisher(children, path) for _ in range(5)]
    before = last_transaction(path)
    leader.start(lead_after, 4)
    assert leader.told() == "has the lock"
    for number, other in enumerate(others):
        other.start(support.send, b"of %d" % number)
    ids = [child.returned() for child in (leader, *others)]
    assert sorted(ids) == [1, 2, 3, 4, 5]
    assert ids[0] == 1
    assert last_transaction(path) == before + 1
    assert sorted(payloads(path)) == [b"of 0", b"of 1", b"of 2", b"of 3", b"of the leader"]
    assert posted(path) == 0


@pytest.mark.parametrize("where", ["before the commit", "after the commit", "between the answers"])
def test_a_leader_that_dies_loses_and_doubles_nothing(path: pathlib.Path, children: Children, where: str) -> None:
    leader, *others = [publisher(children, path) for _ in range(4)]
    leader.start(lead_after, 3, where)
    assert leader.told() == "has the lock"
    for number, other in enumerate(others):
        other.start(support.send, b"of %d" % number)
    assert leader.ended() == -signal.SIGKILL
    ids = [other.returned() for other in others]
    of_the_leader = [] if where == "before the commit" else [b"of the leader"]
    assert sorted(payloads(path)) == [b"of 0", b"of 1", b"of 2", *of_the_leader]
    assert len(set(ids)) == 3
    with Environment(path) as env:
        stored = {message.id: message.data for message in env.browse()}
        assert [stored[message_id] for message_id in ids] == [b"of 0", b"of 1", b"of 2"]
        assert env.open_control().statistics().published == len(stored)


@pytest.mark.parametrize("where", ["before the wake-up", "after the commit", "after the answers"])
def test_a_leader_that_dies_leaves_nobody_asleep(path: pathlib.Path, children: Children, where: str) -> None:
    sleeper = children.new()
    sleeper.do(support.be_patient)
    sleeper.do(support.open_subscriber, path)
    leader, other = [publisher(children, path) for _ in range(2)]
    sleeper.start(support.get_and_ack, None)
    support.wait_until_asleep(sleeper, path)
    leader.start(lead_after, 1, where)
    assert leader.told() == "has the lock"
    other.start(support.send, b"of the other")
    assert leader.ended() == -signal.SIGKILL
    assert other.returned() == 2
    data, _, _ = sleeper.returned()
    assert data == b"of the leader"
    assert sleeper.do(support.get_and_ack, None)[0] == b"of the other"


def test_one_that_dies_after_posting_does_no_harm(path: pathlib.Path, children: Children) -> None:
    leader, killed, other = [publisher(children, path) for _ in range(3)]
    leader.start(lead_after, 2)
    assert leader.told() == "has the lock"
    other.start(support.send, b"of the other")
    wait_until(lambda: posted(path) == 1, "one has posted")
    leader.stop()
    killed.start(support.send, b"of the killed")
    wait_until(lambda: posted(path) == 2, "the other, too")
    killed.kill()
    leader.signal(signal.SIGCONT)
    assert {leader.returned(), other.returned()} <= {1, 2, 3}
    assert sorted(payloads(path)) == [b"of the killed", b"of the leader", b"of the other"]
    successor = publisher(children, path)  # in the place of the dead
    assert successor.do(support.send, b"of the successor") == 4


def test_takes_and_acknowledgements_are_carried_too(path: pathlib.Path, children: Children) -> None:
    large = os.urandom(2000)
    with Environment(path) as env:
        env.new_publisher().send_many([b"small", large, b""])
    consumers = [children.new() for _ in range(3)]
    for consumer in consumers:
        consumer.do(support.open_subscriber, path)
    leader = publisher(children, path)
    before = last_transaction(path)
    for step, arguments in ((support.get, (0,)), (support.ack, ())):
        leader.start(lead_after, 3)
        assert leader.told() == "has the lock"
        for consumer in consumers:
            consumer.start(step, *arguments)
        leader.returned()
        results = [consumer.returned() for consumer in consumers]
        if step is support.get:
            assert sorted(got[0] for got in results) == sorted([b"small", large, b""])
    assert last_transaction(path) == before + 2
    with Environment(path) as env:
        (subscriber,) = env.open_control().statistics().subscribers
        assert (subscriber.settled, subscriber.leased, subscriber.waiting, subscriber.redelivered) == (3, 0, 2, 0)
        assert {owner.pid for owner in subscriber.owners or ()} == {consumer.pid for consumer in consumers}


def test_what_a_dead_one_had_carried_for_it_comes_back(path: pathlib.Path, children: Children) -> None:
    with Environment(path) as env:
        env.new_publisher().send(b"taken by the dead")
    consumer, leader = children.new(), publisher(children, path)
    consumer.do(support.open_subscriber, path)
    leader.start(lead_after, 1)
    assert leader.told() == "has the lock"
    consumer.stop()
    consumer.start(support.get, 0)
    consumer.signal(signal.SIGCONT)
    wait_until(lambda: posted(path) == 0 and last_transaction(path) > 0, "the leader has carried it")
    leader.returned()
    consumer.kill()
    with Environment(path) as env, env.new_subscriber("sub").receive() as data:
        assert data == b"taken by the dead"


def lose_and_ack(here: Here) -> None:
    """Acknowledge what somebody else has settled."""
    here.message.ack()


def test_an_error_reaches_its_caller_and_nobody_else(path: pathlib.Path, children: Children) -> None:
    with Environment(path) as env:
        env.new_publisher().send(b"lost")
        consumer, other, leader = children.new(), publisher(children, path), publisher(children, path)
        consumer.do(support.open_subscriber, path)
        assert consumer.do(support.get, 0)[0] == b"lost"
        assert env.new_subscriber("sub").ack([1]) == 1
    leader.start(lead_after, 2)
    assert leader.told() == "has the lock"
    consumer.start(lose_and_ack)
    other.start(support.send, b"of the other")
    assert {leader.returned(), other.returned()} == {2, 3}
    with pytest.raises(ChildError, match="LeaseLostError: Message 1 of subscriber 'sub'"):
        consumer.returned()


def send_batch(here: Here, number: int) -> list[int]:
    return list(here.pub.send_many([bytes(100)] * number))


def test_what_is_too_long_to_be_posted_waits_for_its_turn(path: pathlib.Path, children: Children) -> None:
    leader, posting, long = [publisher(children, path) for _ in range(3)]
    leader.start(lead_after, 1)
    assert leader.told() == "has the lock"
    long.start(send_batch, 1000)
    posting.start(support.send, b"short")
    assert {leader.returned(), posting.returned()} == {1, 2}
    assert long.returned() == list(range(3, 1003))


def take_many(here: Here, number: int) -> list[bytes]:
    here.messages = here.sub.get_many(number, timeout=0)
    return [message.data for message in here.messages]


@pytest.mark.parametrize("headers", [{}, {"long": "x" * 300}], ids=["without its payloads", "not at all"])
def test_what_does_not_fit_into_an_answer_is_read_by_who_asked(
    path: pathlib.Path, children: Children, headers: dict[str, str]
) -> None:
    sent = [b"%300d" % number for number in range(16)]
    with Environment(path) as env:
        env.new_publisher().send_many([Draft(data, headers=headers) for data in sent])
    consumer, leader = children.new(), publisher(children, path)
    consumer.do(support.open_subscriber, path)
    before = last_transaction(path)
    leader.start(lead_after, 1)
    assert leader.told() == "has the lock"
    consumer.start(take_many, 16)
    leader.returned()
    assert consumer.returned() == sent
    # Carried along in one commit, or refused and done by who asked.
    assert last_transaction(path) - before == (2 if headers else 1)


def test_a_take_of_many_waits_for_its_turn(path: pathlib.Path, children: Children) -> None:
    sent = [b"%d" % number for number in range(500)]
    with Environment(path) as env:
        env.new_publisher().send_many(sent)
    consumer, posting, leader = children.new(), publisher(children, path), publisher(children, path)
    consumer.do(support.open_subscriber, path)
    leader.start(lead_after, 1)
    assert leader.told() == "has the lock"
    consumer.start(take_many, 500)
    posting.start(support.send, b"short")
    assert {leader.returned(), posting.returned()} == {501, 502}
    assert consumer.returned() == sent


def send_until_interrupted(here: Here) -> str:
    try:
        here.pub.send(b"interrupted")
    except KeyboardInterrupt:
        return "interrupted"
    return "sent"


def test_an_interrupt_takes_the_question_back(path: pathlib.Path, children: Children) -> None:
    leader, other, third, fourth = [publisher(children, path) for _ in range(4)]
    leader.start(lead_after, 2)
    assert leader.told() == "has the lock"
    other.start(send_until_interrupted)
    wait_until(lambda: posted(path) == 1, "it has posted")
    other.signal(signal.SIGINT)
    assert other.returned() == "interrupted"
    assert posted(path) == 0
    third.start(support.send, b"of the third")
    fourth.start(support.send, b"of the fourth")
    for child in (leader, third, fourth):
        child.returned()
    assert sorted(payloads(path)) == [b"of the fourth", b"of the leader", b"of the third"]
    assert other.do(support.send, b"after") == 4
