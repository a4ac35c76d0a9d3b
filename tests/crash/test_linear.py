"""The judge of histories accepts what a queue may do, and nothing else."""

import pytest

from tests.crash.linear import ACK, LOST, NACK, OK, SEND, SETTLE, TAKE, Operation, explain

O = Operation  # noqa: E741 - histories are to be seen at a glance

GOOD: dict[str, list[Operation]] = {
    "nothing": [],
    "one after another": [
        O(0, 1, TAKE, 1, []),
        O(2, 3, SEND, 2, [1, 2]),
        O(4, 5, TAKE, 1, [(1, 1)]),
        O(6, 7, NACK, (1, 1), OK),
        O(8, 9, TAKE, 5, [(1, 2), (2, 1)]),
        O(10, 11, ACK, (1, 2), OK),
        O(12, 13, ACK, (1, 2), LOST),
        O(14, 15, TAKE, 1, []),
        O(16, 17, ACK, (2, 1), OK),
    ],
    "sends at once, in either order": [O(0, 9, SEND, 1, [2]), O(0, 9, SEND, 1, [1])],
    "a take that was under way with the send": [O(0, 5, SEND, 1, [1]), O(1, 4, TAKE, 1, [(1, 1)])],
    "or did not see it": [O(0, 5, SEND, 1, [1]), O(1, 6, TAKE, 1, []), O(7, 8, TAKE, 1, [(1, 1)])],
    "takes at once, in either order": [
        O(0, 1, SEND, 2, [1, 2]),
        O(2, 9, TAKE, 1, [(2, 1)]),
        O(3, 8, TAKE, 1, [(1, 1)]),
    ],
    "settled by id, ahead of the position": [
        O(0, 1, SEND, 3, [1, 2, 3]),
        O(2, 3, SETTLE, 2, 1),
        O(4, 5, SETTLE, 2, 0),
        O(6, 7, TAKE, 5, [(1, 1), (3, 1)]),
        O(8, 9, SETTLE, 3, 1),
        O(10, 11, ACK, (3, 1), LOST),
    ],
    "what has to be tried twice": [
        # The first order that comes to mind leads astray: the empty take stands before the send.
        O(0, 9, SEND, 1, [1]),
        O(0, 10, TAKE, 1, []),
        O(0, 11, TAKE, 1, [(1, 1)]),
        O(0, 12, SEND, 1, [2]),
    ],
}

BAD: dict[str, list[Operation]] = {
    "ids against the time": [O(0, 1, SEND, 1, [2]), O(2, 3, SEND, 1, [1])],
    "an id twice": [O(0, 9, SEND, 1, [1]), O(0, 9, SEND, 1, [1])],
    "an id left out": [O(0, 1, SEND, 1, [2])],
    "taken before it was sent": [O(0, 1, TAKE, 1, [(1, 1)]), O(2, 3, SEND, 1, [1])],
    "not there though it was sent": [O(0, 1, SEND, 1, [1]), O(2, 3, TAKE, 1, [])],
    "out of order": [
        O(0, 1, SEND, 2, [1, 2]),
        O(2, 3, TAKE, 1, [(2, 1)]),
        O(4, 5, TAKE, 1, [(1, 1)]),
    ],
    "two owners": [
        O(0, 1, SEND, 1, [1]),
        O(2, 9, TAKE, 1, [(1, 1)]),
        O(2, 9, TAKE, 1, [(1, 1)]),
    ],
    "taken from its holder": [
        O(0, 1, SEND, 1, [1]),
        O(2, 3, TAKE, 1, [(1, 1)]),
        O(4, 5, TAKE, 1, [(1, 2)]),
    ],
    "given back, but not the next": [
        O(0, 1, SEND, 2, [1, 2]),
        O(2, 3, TAKE, 1, [(1, 1)]),
        O(4, 5, NACK, (1, 1), OK),
        O(6, 7, TAKE, 1, [(2, 1)]),
    ],
    "given back, and gone": [
        O(0, 1, SEND, 1, [1]),
        O(2, 3, TAKE, 1, [(1, 1)]),
        O(4, 5, NACK, (1, 1), OK),
        O(6, 7, TAKE, 1, []),
    ],
    "again after its acknowledgement": [
        O(0, 1, SEND, 1, [1]),
        O(2, 3, TAKE, 1, [(1, 1)]),
        O(4, 5, ACK, (1, 1), OK),
        O(6, 7, TAKE, 1, [(1, 2)]),
    ],
    "acknowledged twice": [
        O(0, 1, SEND, 1, [1]),
        O(2, 3, TAKE, 1, [(1, 1)]),
        O(4, 9, ACK, (1, 1), OK),
        O(4, 9, ACK, (1, 1), OK),
    ],
    "a late acknowledgement accepted": [
        O(0, 1, SEND, 1, [1]),
        O(2, 3, TAKE, 1, [(1, 1)]),
        O(4, 5, NACK, (1, 1), OK),
        O(6, 7, TAKE, 1, [(1, 2)]),
        O(8, 9, ACK, (1, 1), OK),
    ],
    "lost by nobody": [O(0, 1, SEND, 1, [1]), O(2, 3, TAKE, 1, [(1, 1)]), O(4, 5, ACK, (1, 1), LOST)],
    "a count left out": [
        O(0, 1, SEND, 1, [1]),
        O(2, 3, TAKE, 1, [(1, 1)]),
        O(4, 5, NACK, (1, 1), OK),
        O(6, 7, TAKE, 1, [(1, 3)]),
    ],
    "settled by id twice": [O(0, 1, SEND, 1, [1]), O(2, 9, SETTLE, 1, 1), O(2, 9, SETTLE, 1, 1)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    assert explain(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    assert explain(BAD[name]) is not None
