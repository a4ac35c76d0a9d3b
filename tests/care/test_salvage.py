"""Damaged queues: whatever was done to the file, what is saved is genuine, and what is lost is said."""

import pathlib
import random
import shutil
import signal
import subprocess
from collections.abc import Callable

import pytest

from persipubsub import (
    Environment,
    PersipubsubError,
    QueueBusyError,
    QueueDamagedError,
    QueueExistsError,
    QueueNotFoundError,
    Retention,
    care,
)
from tests.care.support import deliveries, left_over, picture

PAGE = 4096
Damage = Callable[[bytearray, random.Random], None]


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def zero_pages(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) // PAGE) * PAGE
        data[at : at + PAGE] = bytes(PAGE)


def noise(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) // PAGE) * PAGE
        data[at : at + PAGE] = rng.randbytes(PAGE)


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 200)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def swap_pages(data: bytearray, rng: random.Random) -> None:
    one, other = (rng.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[one : one + PAGE], data[other : other + PAGE] = data[other : other + PAGE], data[one : one + PAGE]


def heads(data: bytearray, rng: random.Random) -> None:
    """Damage what the tree is made of: numbers, flags, offsets."""
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data) // PAGE) * PAGE + rng.randrange(40)] = rng.randrange(256)


DAMAGES = [truncate, zero_pages, noise, flip_bits, swap_pages, heads]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a queue with deep trees, which tests copy."""
    path = tmp_path_factory.mktemp("large") / "queue"
    with Environment(path) as env:
        env.new_control({"a", "b"})
        pub = env.new_publisher()
        for start in range(0, 3000, 500):
            pub.send_many([b"%d " % number * (1 + number % 150) for number in range(start, start + 500)])
        pub.send_many([b"large" * 5000] * 5)
        with env.new_subscriber("a") as a:
            a.ack([message.id for message in a.get_many(1000, timeout=0)])
    return path


def damaged_copy(queue: pathlib.Path, target: pathlib.Path, damage: Damage, seed: int) -> pathlib.Path:
    shutil.copytree(queue, target)
    data = bytearray((target / "data.mdb").read_bytes())
    damage(data, random.Random(seed))
    (target / "data.mdb").write_bytes(data)
    return target


def test_a_sound_queue_is_saved_whole(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    report = care.salvage(queue, tmp_path / "new")
    assert report.complete
    assert not report.damages
    assert report.messages == len(picture(queue)["messages"])
    assert (report.dead_letters, report.subscribers) == (2, ("a", "b", "c"))
    assert picture(tmp_path / "new") == picture(queue)
    assert deliveries(tmp_path / "new", "b") == deliveries(queue, "b")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_any_damage(pattern: pathlib.Path, tmp_path: pathlib.Path, damage: Damage) -> None:
    """No damage ends in anything but a sound queue of genuine messages, or in an error of ours."""
    genuine = {message[0]: message[1:4] for message in picture(pattern)["messages"]}
    ever = set(genuine) | set(range(1, 9))  # the first eight were consumed, and may come back
    saved = 0
    for seed in range(12):
        damaged = damaged_copy(pattern, tmp_path / f"{seed}", damage, seed)
        before = (damaged / "data.mdb").read_bytes()
        try:
            report = care.salvage(damaged, tmp_path / f"new-{seed}")
        except QueueDamagedError:
            continue
        found = picture(tmp_path / f"new-{seed}")["messages"]
        assert {message[0] for message in found} <= ever
        assert all(message[1:4] == genuine[message[0]] for message in found if message[0] in genuine)
        if set(genuine) - {message[0] for message in found}:
            assert not report.complete, seed
        assert (damaged / "data.mdb").read_bytes() == before
        saved += len(found)
    assert saved
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("damage", [zero_pages, heads], ids=lambda damage: damage.__name__)
def test_messages_below_a_damaged_branch_are_found(large: pathlib.Path, tmp_path: pathlib.Path, damage: Damage) -> None:
    with Environment(large) as env:
        genuine = {message.id: message.data for message in env.browse()}
    for seed in range(4):
        damaged = damaged_copy(large, tmp_path / f"{seed}", damage, seed)
        report = care.salvage(damaged, tmp_path / f"new-{seed}")
        with Environment(tmp_path / f"new-{seed}") as env:
            found = {message.id: message.data for message in env.browse()}
        assert found.items() <= genuine.items()
        # Twenty damaged pages of some four hundred.
        assert len(found) > len(genuine) * 0.8
        assert report.lost == len(genuine) - len(found) == len(genuine) - report.messages


@pytest.mark.parametrize("number", [0, 1])
def test_either_meta_page_may_go(queue: pathlib.Path, tmp_path: pathlib.Path, number: int) -> None:
    before = picture(queue)
    data = bytearray((queue / "data.mdb").read_bytes())
    data[number * PAGE : (number + 1) * PAGE] = bytes(PAGE)
    damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    (damaged / "data.mdb").write_bytes(data)
    report = care.salvage(damaged, tmp_path / "new")
    assert "1 of 2 meta pages cannot be read" in report.damages
    # The last transaction may be gone with its page; messages are not.
    assert picture(tmp_path / "new")["messages"] == before["messages"]
    assert not left_over(tmp_path)


def test_both_meta_pages_may_go(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = picture(queue)
    damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    data = (queue / "data.mdb").read_bytes()
    (damaged / "data.mdb").write_bytes(bytes(2 * PAGE) + data[2 * PAGE :])
    report = care.salvage(damaged, tmp_path / "new")
    assert not report.complete
    assert any("no subscriber" in note for note in report.notes)
    with Environment(tmp_path / "new") as env:
        assert env.open_control().settings.retention is Retention.LOG
        found = {message.id: message.data for message in env.browse()}
    assert {message[0]: message[1] for message in before["messages"]}.items() <= found.items()


def test_a_damaged_payload_is_named(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    data = (damaged / "data.mdb").read_bytes()
    (damaged / "data.mdb").write_bytes(data.replace(b"expiring", b"expired!"))
    report = care.salvage(damaged, tmp_path / "new")
    assert report.lost_ids == (20,)
    assert report.lost == 1
    assert [message[0] for message in picture(tmp_path / "new")["messages"]] == list(range(9, 20))


def test_salvage_refuses(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Environment(queue) as env:
        env.open_control()
        with pytest.raises(QueueBusyError, match="in use"):
            care.salvage(queue, tmp_path / "new")
    with pytest.raises(QueueExistsError):
        care.salvage(queue, queue)
    with pytest.raises(QueueNotFoundError):
        care.salvage(tmp_path, tmp_path / "new")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"hello" * 10_000)
    with pytest.raises(QueueDamagedError, match="Nothing can be read"):
        care.salvage(tmp_path / "other", tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- checking in a process of its own ----------------------------------------------------------------


def test_check_apart(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert care.check_apart(queue) == []
    with pytest.raises(QueueNotFoundError):
        care.check_apart(tmp_path / "missing")


def test_ctrl_c_ends_the_checking_process(queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []

    def interrupt(child: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        children.append(child)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        care.check_apart(queue)
    assert [child.returncode for child in children] == [-signal.SIGKILL]


def test_no_damage_ends_the_process(large: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Among these are pages over which LMDB aborts."""
    with Environment(large) as env:
        genuine = [message.data for message in env.browse()]
    caught = 0
    for seed in range(5):
        damaged = damaged_copy(large, tmp_path / f"{seed}", heads, seed)
        try:
            findings = care.check_apart(damaged)
        except PersipubsubError:
            continue
        if not findings:  # it hit what nothing leads to
            with Environment(damaged) as env:
                assert [message.data for message in env.browse()] == genuine, seed
        caught += bool(findings)
    assert caught
