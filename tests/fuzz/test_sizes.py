"""Messages of all sizes. ``python -m tests.soak --rows message-sizes`` takes larger ones, too."""

import pathlib

import pytest

from persipubsub import Durability, Environment, MessageTooLargeError, Publisher
from persipubsub.engine.local.publish import Publication
from persipubsub.engine.local.store import Store
from persipubsub.message import make_plain_entry
from tests.faults.crew import Hand
from tests.fuzz import sizes


@pytest.mark.parametrize("durability", list(Durability))
def test_any_size_comes_as_it_was_sent_or_is_refused_at_once(memory: pathlib.Path, durability: Durability) -> None:
    for found in sizes.trials(memory, durability, 1, [32 * sizes.MIB]):
        assert found.findings == []
        assert found.messages > 0


def raise_the_limit(path: pathlib.Path) -> None:
    with Environment(path) as env:
        env.open_control().configure(max_message_bytes=2000)


def test_a_limit_that_another_process_has_raised_counts_at_once(memory: pathlib.Path) -> None:
    with Environment(memory / "queue") as env:
        env.new_control({"a"}, max_message_bytes=1000)
        pub = env.new_publisher()
        pub.send(bytes(1000))
        with pytest.raises(MessageTooLargeError, match=r"accepts 1000 \(max_message_bytes\)"):
            pub.send(bytes(2000))
        hand = Hand()
        try:
            hand.do(raise_the_limit, memory / "queue")
        finally:
            hand.end()
        pub.send(bytes(2000))
        with pytest.raises(MessageTooLargeError, match="accepts 2000"):
            pub.send(bytes(2001))


def test_one_that_is_too_large_does_not_keep_others_from_a_shared_commit(memory: pathlib.Path) -> None:
    with Environment(memory / "queue") as env:
        env.new_control({"a"}, max_message_bytes=1000)
        engine = env.new_publisher()._engine()
        first, refused, last = engine.put_each([[make_plain_entry(bytes(size))] for size in (1, 1001, 1000)])
        assert (first, last) == ([1], [2])
        assert isinstance(refused, MessageTooLargeError)


# -- what would be seen ------------------------------------------------------------------------------------


def test_a_byte_that_is_left_out_is_seen(memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Publisher.send
    monkeypatch.setattr(
        Publisher, "send", lambda pub, data: send(pub, data[:-1] if len(data) == 4 * sizes.KIB else data)
    )
    findings = sizes.round_trips(memory / "queue", Durability.PROCESS, 1).findings
    assert "4096 bytes: not what was sent, by receive" in findings


def test_a_refusal_under_the_lock_is_seen(memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "largest_payload", lambda store: 1 << 40)
    findings = sizes.too_large_while_locked(memory / "queue")
    assert f"{sizes.LARGEST + 1} bytes while another process writes: QueueBusyError" in findings


def test_copies_are_seen(memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Publication.put

    def put_with_copies(publication: Publication, work: object) -> list[int]:
        copies = [bytes(bytearray(entry.data)) for entry in publication.entries for _ in range(3)]
        assert copies
        return put(publication, work)  # type: ignore[arg-type]

    monkeypatch.setattr(Publication, "put", put_with_copies)
    findings = sizes.memory(memory / "queue", Durability.PROCESS, 32 * sizes.MIB).findings
    assert any(finding.startswith("send takes") for finding in findings)
