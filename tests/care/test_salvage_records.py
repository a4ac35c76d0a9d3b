"""Damaged queues whose pages are sound and whose records are not: what is lost is said, the rest is saved."""

import contextlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import lmdb
import msgspec
import pytest

from persipubsub import Durability, Environment, HighWaterMark, Retention, care
from persipubsub.engine.local import files, format
from persipubsub.engine.local.salvage import Salvage
from tests.care.support import deliveries, picture

GARBAGE = b"\xc1\xc1\xc1"
Databases = dict[bytes, Any]
Change = Callable[[lmdb.Transaction, Databases], None]


def change(path: pathlib.Path, how: Change) -> None:
    """Write into the databases of a queue past all rules."""
    with lmdb.open(str(path), max_dbs=20, map_size=1 << 30) as env:
        with env.begin() as txn:
            names = list(txn.cursor().iternext(values=False))
        databases = {name: env.open_db(name, create=False) for name in names}
        with env.begin(write=True) as txn:
            how(txn, databases)


def salvaged(queue: pathlib.Path, tmp_path: pathlib.Path, how: Change) -> Salvage:
    """Change a copy of a queue, and save what can be read of it."""
    damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    change(damaged, how)
    return care.salvage(damaged, tmp_path / "new")


def put(name: bytes, key: bytes, value: bytes) -> Change:
    """Return what writes one record."""

    def how(txn: lmdb.Transaction, databases: Databases) -> None:
        assert txn.put(key, value, db=databases[name])

    return how


def key(kind: bytes, message_id: int) -> bytes:
    return kind + format.pack_id(message_id)


def ids(path: pathlib.Path) -> list[int]:
    return [message[0] for message in picture(path)["messages"]]


# -- of the queue ---------------------------------------------------------------------------------------------


def test_the_state(pattern: pathlib.Path, tmp_path: pathlib.Path) -> None:
    report = salvaged(pattern, tmp_path, put(format.QUEUE_DB, format.KEY_STATE, GARBAGE))
    assert report.notes == ("the state of the queue cannot be read",)
    assert not report.complete
    before = picture(pattern)
    after = picture(tmp_path / "new")
    assert after["messages"] == before["messages"]
    assert after["dead"] == before["dead"]
    with Environment(tmp_path / "new") as env:
        assert env.new_publisher().send(b"next") == 21


@pytest.mark.parametrize("value", [GARBAGE, msgspec.msgpack.encode("soon"), None], ids=["garbage", "text", "gone"])
def test_a_setting(pattern: pathlib.Path, tmp_path: pathlib.Path, value: bytes | None) -> None:
    at = format.SETTING_PREFIX + b"lock_timeout"

    def how(txn: lmdb.Transaction, databases: Databases) -> None:
        queue = databases[format.QUEUE_DB]
        assert txn.delete(at, db=queue) if value is None else txn.put(at, value, db=queue)

    report = salvaged(pattern, tmp_path, how)
    assert report.notes == ("the setting lock_timeout cannot be read; it has its default",)
    assert picture(tmp_path / "new") == picture(pattern)


def test_settings_that_make_no_sense(pattern: pathlib.Path, tmp_path: pathlib.Path) -> None:
    negative = msgspec.msgpack.encode(-1.0)
    report = salvaged(pattern, tmp_path, put(format.QUEUE_DB, format.SETTING_PREFIX + b"lock_timeout", negative))
    (note,) = report.notes
    assert "the settings make no sense, all have their defaults: " in note
    assert "lock_timeout" in note
    with Environment(tmp_path / "new") as env:
        assert env.open_control().settings.high_water_mark == HighWaterMark()
    assert ids(tmp_path / "new") == ids(pattern)


def test_a_note_of_a_power_cut_is_passed_on(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (queue / files.BOOT).write_text("another boot of this machine")
    report = care.salvage(queue, tmp_path / "new")
    (note,) = report.notes
    assert "when the machine stopped: what was stored last before that may be missing without a trace" in note
    assert not report.complete
    assert picture(tmp_path / "new") == picture(queue)


def test_a_database_that_nothing_leads_to(pattern: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def how(txn: lmdb.Transaction, databases: Databases) -> None:
        txn.drop(databases[format.META_DB])

    before = picture(pattern)["messages"]
    damaged = pathlib.Path(shutil.copytree(pattern, tmp_path / "damaged"))
    change(damaged, how)
    # The state before that was is overwritten, too.
    change(damaged, put(format.GONE_DB, b"any", b""))
    report = care.salvage(damaged, tmp_path / "new")
    assert f"nothing leads to {format.META_DB.decode()} any more" in report.damages
    # The pages are still in the file; what was written over them is said to be lost.
    after = picture(tmp_path / "new")["messages"]
    assert [message for message in before if message not in after] == [
        message for message in before if message[0] in report.lost_ids
    ]
    assert report.lost == len(before) - len(after)


def test_a_log_keeps_what_everybody_has_read(tmp_path: pathlib.Path) -> None:
    """Where something is damaged, a log is looked through from its beginning."""
    queue = tmp_path / "queue"
    with Environment(queue) as env:
        control = env.new_control({"a", "b", "c"}, retention=Retention.LOG)
        env.new_publisher().send_many([b"%d" % number for number in range(300)])
        for identifier in control.subscriber_ids:
            control.purge(identifier)
    before = picture(queue)["messages"]

    def how(txn: lmdb.Transaction, databases: Databases) -> None:
        txn.drop(databases[format.DATA_DB])

    damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    change(damaged, how)
    change(damaged, put(format.GONE_DB, b"any", b""))
    report = care.salvage(damaged, tmp_path / "new")
    after = picture(tmp_path / "new")["messages"]
    assert len(after) > 100
    assert all(message in before for message in after)
    assert report.lost == len(before) - len(after) == len(report.lost_ids)


# -- of messages ----------------------------------------------------------------------------------------------


def test_headers_that_cannot_be_read(pattern: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Not even where the checksum agrees, for then something else has written them."""

    def how(txn: lmdb.Transaction, databases: Databases) -> None:
        data = txn.get(format.pack_id(20), db=databases[format.DATA_DB])
        assert data is not None
        meta = format.pack_meta(20, format.payload_digest(data), format.Meta(1, 0, 0, 0, None, GARBAGE))
        assert txn.put(format.pack_id(20), meta, db=databases[format.META_DB])

    report = salvaged(pattern, tmp_path, how)
    assert (report.lost, report.lost_ids) == (1, (20,))
    assert ids(tmp_path / "new") == [each for each in ids(pattern) if each != 20]


@pytest.mark.parametrize("at", [b"short", b"\xff" * 8, bytes(8)], ids=["short", "high", "zero"])
def test_an_id_that_is_none(pattern: pathlib.Path, tmp_path: pathlib.Path, at: bytes) -> None:
    report = salvaged(pattern, tmp_path, put(format.DATA_DB, at, b"what is this?"))
    assert report.lost_ids == ()
    assert report.complete
    assert picture(tmp_path / "new") == picture(pattern)


def test_what_limits_took_is_not_saved(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is deleted bit by bit, so for a while it still stands in the file."""
    monkeypatch.setattr("persipubsub.engine.local.prune.AT_ONCE", 0)
    queue, damaged = tmp_path / "queue", tmp_path / "damaged"
    with Environment(queue) as env:
        env.new_control({"a"}, HighWaterMark(max_messages=2000), durability=Durability.COMMIT)
        env.new_publisher().send_many([b"%d" % number for number in range(2000)])
        env.new_publisher().send(b"one too many")
        kept = [message.data for message in env.browse()]
        shutil.copytree(queue, damaged)
    report = care.salvage(damaged, tmp_path / "new")
    assert report.complete
    with Environment(tmp_path / "new") as env:
        assert [message.data for message in env.browse()] == kept
    assert len(kept) == 1001


# -- of subscribers -------------------------------------------------------------------------------------------


def test_a_subscriber(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    report = salvaged(queue, tmp_path, put(format.SUBSCRIBER_DB, b"c", GARBAGE))
    assert report.notes == ("subscriber b'c' cannot be read", "1 subscribers cannot be read")
    assert report.subscribers == ("a", "b")
    assert deliveries(tmp_path / "new", "b") == deliveries(queue, "b")


def test_names_that_are_none(pattern: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def how(txn: lmdb.Transaction, databases: Databases) -> None:
        subscribers = databases[format.SUBSCRIBER_DB]
        record = txn.get(b"a", db=subscribers)
        assert record is not None
        for name in (b"\xff", b"two\nlines"):
            txn.put(name, record, db=subscribers)

    report = salvaged(pattern, tmp_path, how)
    assert report.notes == ("subscriber b'two\\nlines' cannot be read", "subscriber b'\\xff' cannot be read")
    assert picture(tmp_path / "new") == picture(pattern)


def test_an_ephemeral_subscriber_is_not_saved(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """It goes with its owner, who is not there."""
    with Environment(queue) as env:
        env.open_control().add_subscriber("reply", ephemeral=True)
        damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    report = care.salvage(damaged, tmp_path / "new")
    assert report.subscribers == ("a", "b", "c")
    assert report.complete
    assert picture(tmp_path / "new")["subscribers"] == picture(queue)["subscribers"]


def test_what_a_subscriber_noted_of_a_message(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """It is delivered again, as if it had never been tried."""
    (delayed,) = (each for each in range(9, 21) if holds(queue, format.DELAYED, each))
    report = salvaged(queue, tmp_path, put(format.subscriber_db(b"b"), key(format.DELAYED, delayed), GARBAGE))
    assert report.notes == (f"what subscriber 'b' noted of message {delayed} cannot be read",)
    assert delayed not in [each[0] for each in deliveries(queue, "b")]
    count = {each[0]: each[2] for each in deliveries(tmp_path / "new", "b")}
    assert count[delayed] == 1


def holds(path: pathlib.Path, kind: bytes, message_id: int) -> bool:
    with lmdb.open(str(path), max_dbs=20, readonly=True, lock=False) as env:
        database = env.open_db(format.subscriber_db(b"b"), create=False)
        with env.begin() as txn:
            return txn.get(key(kind, message_id), db=database) is not None


def test_a_take_of_the_newest_that_was_held_waits_again(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    damaged = tmp_path / "damaged"
    with (
        contextlib.suppress(LookupError),
        Environment(queue) as env,
        env.new_subscriber("a").receive_to_top(timeout=0) as data,
    ):
        assert data == b"expiring"
        shutil.copytree(queue, damaged)
        raise LookupError
    report = care.salvage(damaged, tmp_path / "new")
    assert report.complete
    found = deliveries(tmp_path / "new", "a")
    assert found == deliveries(queue, "a")
    assert (20, b"expiring", 1, None) in found


def test_a_requeued_message_and_a_dead_letter(pattern: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (requeued,) = (each for each in range(9, 21) if holds(pattern, format.REQUEUED, each))
    first, second = (each for each in range(9, 21) if holds(pattern, format.DEAD, each))

    def how(txn: lmdb.Transaction, databases: Databases) -> None:
        database = databases[format.subscriber_db(b"b")]
        txn.put(key(format.OWN_DATA, requeued), b"something else", db=database)
        txn.put(key(format.DEAD, first), GARBAGE, db=database)
        txn.delete(key(format.OWN_DATA, second), db=database)

    report = salvaged(pattern, tmp_path, how)
    assert report.notes == (
        f"the requeued message {requeued} of subscriber 'b' is lost",
        f"the dead letter {first} of subscriber 'b' is lost",
        f"the dead letter {second} of subscriber 'b' is lost",
    )
    assert (report.complete, report.dead_letters) == (False, 0)
    assert picture(tmp_path / "new")["dead"]["b"] == []
    assert requeued not in [each[0] for each in deliveries(tmp_path / "new", "b")]
    assert picture(tmp_path / "new")["messages"] == picture(pattern)["messages"]
