"""A disk that fails: nothing is reported as stored that is not, and the queue is used again only after a look."""

import errno
import itertools
import pathlib
import resource
from collections.abc import Iterator

import pytest

from persipubsub import (
    Durability,
    Environment,
    OpenError,
    PersipubsubError,
    StorageError,
    StorageFailedError,
    StorageFullError,
)
from persipubsub.engine.local import doubt, files, opening
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.translate import translate
from tests.faults import diskerrors
from tests.faults.shim import SYNCS, Call, Refusal, Shim
from tests.process.support import Children, Here


@pytest.mark.parametrize("durability", list(Durability))
def test_one_call_fails_and_the_power_is_cut_later(memory: pathlib.Path, durability: Durability) -> None:
    failed: set[str] = set()
    for what, trial in diskerrors.sweep(memory, durability, 1, 20, 5):
        assert not trial.findings, (what, trial.errors, trial.findings)
        failed.update(error.partition(":")[0] for error in trial.errors)
    assert "StorageFailedError" in failed
    assert "StorageFullError" in failed


def test_going_on_after_a_failed_sync_is_seen(memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "fail", lambda self, error: translate(error, self.path))
    found = 0
    for _, trial in diskerrors.sweep(memory, Durability.COMMIT, 2, 40, 10, only_syncs=True):
        found += bool(trial.findings)
        if found:
            break
    assert found


# -- one failure, by hand ------------------------------------------------------------------------------------


class Switch:
    """Lets syncs fail as long as it is on, those of LMDB or all."""

    def __init__(self) -> None:
        self.on = False
        self.all = False

    def __call__(self, call: Call) -> Refusal | None:
        return Refusal(errno.EIO) if self.on and call.name in SYNCS and (self.all or call.from_lmdb) else None


@pytest.fixture
def syncs_fail() -> Iterator[Switch]:
    switch = Switch()
    with Shim(switch).installed():
        yield switch
        switch.on = False


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.COMMIT])
def test_nothing_goes_on_after_a_failed_sync(
    queue_path: pathlib.Path, syncs_fail: Switch, durability: Durability
) -> None:
    env = Environment(queue_path)
    control = env.new_control({"a"}, durability=durability)
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    pub.send_many([b"1", b"2"])
    message = sub.get(timeout=0)
    assert message is not None
    syncs_fail.on = True
    with pytest.raises(StorageFailedError, match=r"(?s)disk failed.*close the queue and open it again"):
        pub.send(b"3")
    syncs_fail.on = False
    for operation in (lambda: pub.send(b"4"), message.ack, lambda: sub.get(timeout=0), sub.peek, control.statistics):
        with pytest.raises(StorageFailedError):
            operation()
    assert (queue_path / "boot").exists()
    env.close()
    with Environment(queue_path) as env:
        assert env.open_control().check() == []
        taken = [message.data for message in env.new_subscriber("a").get_many(9, timeout=0)]
        assert taken[:2] == [b"1", b"2"]
    assert not (queue_path / "boot").exists()


class Once:
    """Lets the next sync of LMDB fail for lack of room; another descriptor of the file is told of it once, too."""

    def __init__(self) -> None:
        self.left = 0
        self._teller = True

    def __call__(self, call: Call) -> Refusal | None:
        if not self.left or call.name not in SYNCS or call.from_lmdb is not self._teller:
            return None
        self.left -= 1
        self._teller = False
        return Refusal(errno.ENOSPC)


def test_a_sync_without_room_is_a_failed_sync(queue_path: pathlib.Path) -> None:
    once = Once()
    with Environment(queue_path) as env, Shim(once).installed():
        env.new_control({"a"}, durability=Durability.FULL)
        pub = env.new_publisher()
        pub.send(b"1")
        once.left = 2
        for _ in range(2):
            with pytest.raises(StorageFailedError):
                pub.send(b"2")
        assert not once.left


def test_a_background_sync_that_fails_is_told_by_the_next_operation(
    queue_path: pathlib.Path, syncs_fail: Switch
) -> None:
    env = Environment(queue_path)
    env.new_control({"a"}, durability=Durability.PROCESS)
    pub = env.new_publisher()
    syncs_fail.on = True

    def send_until_the_thread_has_tried() -> None:
        for number in itertools.count():
            pub.send(b"%d" % number)

    with pytest.raises(StorageFailedError):
        send_until_the_thread_has_tried()
    syncs_fail.on = False
    env.close()
    with Environment(queue_path) as env:
        assert env.new_publisher().send(b"") > 0


def test_a_queue_opens_again_after_a_close_that_could_not_sync(
    queue_path: pathlib.Path, syncs_fail: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persipubsub.engine.local.syncing.Syncer.ask", lambda self: None)
    env = Environment(queue_path)
    env.new_control({"a"}, durability=Durability.PROCESS)
    env.new_publisher().send(b"")
    syncs_fail.on = syncs_fail.all = True
    with pytest.raises(StorageFailedError):
        env.close()
    with pytest.raises(StorageError, match="the disk fails"), Environment(queue_path) as env:
        env.open_control()  # it is written anew, and that fails
    syncs_fail.on = False
    with Environment(queue_path) as env:
        assert env.open_control().check() == []
        assert env.new_publisher().send(b"") == 2


def test_the_note_is_taken_away_while_nobody_can_come_in(
    queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could be the note of one who has just opened the queue."""
    forgotten = []
    forget = doubt.leave

    def forget_locked(path: pathlib.Path) -> None:
        store = opening._stores[files.identity(path)]
        forgotten.append(store.locks._descriptor >= 0)
        forget(path)

    monkeypatch.setattr(doubt, "leave", forget_locked)
    with Environment(queue_path) as env:
        env.new_control({"a"}, durability=Durability.PROCESS)
        env.new_publisher().send(b"")
    assert forgotten == [True]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, OpenError), (errno.EMFILE, OpenError), (errno.ENOSPC, StorageFullError)]
)
def test_a_note_that_cannot_be_written_is_an_error_of_ours(
    queue_path: pathlib.Path, number: int, kind: type[PersipubsubError]
) -> None:
    with Environment(queue_path) as env:
        env.new_control({"a"}, durability=Durability.PROCESS)
    with (
        Shim(lambda call: Refusal(number) if call.name == "write" and not call.from_lmdb else None).installed(),
        pytest.raises(kind),
        Environment(queue_path) as env,
    ):
        env.open_control()
    with Environment(queue_path) as env:
        assert env.open_control().check() == []


def grow_without_memory(here: Here, path: pathlib.Path) -> str:
    """Let the map have no room in the address space; return what was raised."""
    with Environment(path) as env:
        pub = env.new_publisher()
        pub.send(b"1")
        large = bytes(200 << 20)
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), resource.RLIM_INFINITY))
        text = ""
        try:
            pub.send(large)
        except StorageError as error:
            text = str(error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        pub.send(b"2")
        assert [message.data for message in env.browse()] == [b"1", b"2"]
        assert env.open_control().check() == []
        return text


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.PROCESS])
def test_a_map_that_finds_no_address_space_stays_as_it_was(
    queue_path: pathlib.Path, children: Children, durability: Durability
) -> None:
    with Environment(queue_path) as env:
        env.new_control({"sub"}, durability=durability, map_size=4 << 20)
    assert "no memory or address space" in children.new().do(grow_without_memory, queue_path)
