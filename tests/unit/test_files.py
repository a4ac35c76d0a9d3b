"""Directories that are no good queue: one clear error of our own each, and nothing is touched."""

import json
import os
import pathlib
import random
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import lmdb
import msgspec
import pytest

import persipubsub
from persipubsub import Durability, Environment

MESSAGES = 40
#: Opens each directory in a process of its own, within a bounded time, and tells how that went.
_OPEN = """
import json, os, signal, sys
import lmdb.verify, persipubsub.engine.local  # before any right is given up
from persipubsub import Environment, PersipubsubError

user, paths = int(sys.argv[1]), sys.argv[2:]
for path in paths:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(100)
        if user:
            os.seteuid(user)
        try:
            with Environment(path) as env:
                findings = env.open_control().check()
                messages = [message.data.hex() for message in env.browse()]
                answer = ["opened", repr(findings), len(messages)]
        except PersipubsubError as error:
            answer = [type(error).__name__, str(error), 0]
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    answer = os.read(reading, 65536)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    print(json.dumps([status, json.loads(answer or "null")]), flush=True)
"""

Answer = tuple[str, str, int]


def open_each(*paths: pathlib.Path, user: int = 0) -> list[Answer]:
    """Open each path in a process of its own; none may die of a signal."""
    folder = pathlib.Path(persipubsub.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, str(user), *map(str, paths)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(paths)
    for path, (status, _) in zip(paths, answers, strict=True):
        assert status == 0, f"{path}: the process ended with status {status}: {done.stderr}"
    return [tuple(answer) for _, answer in answers]


def picture(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    """Return modes and contents of everything below a path, but for what LMDB notes in its lock file."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))] if folder.is_dir() else [folder]:
        mode = os.lstat(path).st_mode
        content = b""
        if stat.S_ISLNK(mode):
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(mode) and path.name != "lock.mdb":
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (mode, content)
    return found


def deploy(path: pathlib.Path, durability: Durability = Durability.FULL) -> pathlib.Path:
    with Environment(path) as env:
        env.new_control({"a", "b"}, durability=durability, map_size=2**23)
        env.new_publisher().send_many([b"%d" % number * 300 for number in range(MESSAGES)])
        env.new_subscriber("a").get_many(3, timeout=0)
    return path


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a queue that tests copy; they leave it as it is."""
    return deploy(tmp_path_factory.mktemp("pattern") / "queue")


@pytest.fixture
def queue(pattern: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(pattern, tmp_path / "queue"))


@pytest.fixture
def unprivileged(pattern: pathlib.Path) -> Iterator[tuple[pathlib.Path, int]]:
    """Return a queue of a user without privileges, and the user: 0 if that is who runs this."""
    # The folders of other tests cannot be reached by others.
    with tempfile.TemporaryDirectory() as folder:
        queue = pathlib.Path(shutil.copytree(pattern, pathlib.Path(folder) / "queue"))
        nobody = 0 if os.geteuid() else 65_534
        if nobody:
            for path in [pathlib.Path(folder), queue, *queue.rglob("*")]:
                os.lchown(path, nobody, -1)
        yield queue, nobody
        os.chmod(folder, 0o700)
        queue.chmod(0o700)


def test_a_good_queue_opens(queue: pathlib.Path) -> None:
    assert open_each(queue) == [("opened", "[]", MESSAGES)]


# -- something else ----------------------------------------------------------------------------------


def missing(path: pathlib.Path) -> pathlib.Path:
    return path / "nothing"


def a_file(path: pathlib.Path) -> pathlib.Path:
    (path / "file").write_text("text")
    return path / "file"


def below_a_file(path: pathlib.Path) -> pathlib.Path:
    (path / "file").write_text("text")
    return path / "file" / "queue"


def empty(path: pathlib.Path) -> pathlib.Path:
    (path / "empty").mkdir()
    return path / "empty"


def other_things(path: pathlib.Path) -> pathlib.Path:
    (path / "other").mkdir()
    (path / "other" / "thesis.tex").write_text("text")
    return path / "other"


def foreign(path: pathlib.Path) -> pathlib.Path:
    with lmdb.open(str(path / "foreign"), max_dbs=4) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value", db=env.open_db(b"data_db", txn))
    return path / "foreign"


def dangling_link(path: pathlib.Path) -> pathlib.Path:
    (path / "link").symlink_to(path / "nowhere")
    return path / "link"


def looping_link(path: pathlib.Path) -> pathlib.Path:
    (path / "loop").symlink_to(path / "loop")
    return path / "loop"


def too_long(path: pathlib.Path) -> pathlib.Path:
    return path / ("x" * 300)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (missing, "QueueNotFoundError"),
        (a_file, "NotAQueueError"),
        (below_a_file, "NotAQueueError"),
        (empty, "QueueNotFoundError"),
        (other_things, "NotAQueueError"),
        (foreign, "NotAQueueError"),
        (dangling_link, "QueueNotFoundError"),
        (looping_link, "OpenError"),
        (too_long, "OpenError"),
    ],
)
def test_what_is_no_queue_is_refused_and_left_alone(
    tmp_path: pathlib.Path, make: Callable[[pathlib.Path], pathlib.Path], expected: str
) -> None:
    path = make(tmp_path)
    before = picture(tmp_path)
    ((kind, text, _),) = open_each(path)
    assert kind == expected
    assert str(path) in text
    assert picture(tmp_path) == before


@pytest.mark.parametrize("make", [a_file, below_a_file, other_things, foreign, dangling_link, looping_link, too_long])
def test_no_queue_is_created_where_something_else_is(
    tmp_path: pathlib.Path, make: Callable[[pathlib.Path], pathlib.Path]
) -> None:
    path = make(tmp_path)
    before = picture(tmp_path)
    with pytest.raises(persipubsub.OpenError, match=r"path|folder|cannot be a queue"):
        Environment(path).new_control({"a"})
    assert picture(tmp_path) == before


def test_a_queue_is_created_in_an_empty_folder(tmp_path: pathlib.Path) -> None:
    path = deploy(empty(tmp_path))
    assert open_each(path) == [("opened", "[]", MESSAGES)]


def test_a_foreign_environment_in_a_queues_clothes(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copy(foreign(tmp_path) / "data.mdb", queue / "data.mdb")
    before = picture(queue)
    ((kind, text, _),) = open_each(queue)
    assert kind == "NotAQueueError"
    assert str(queue) in text
    assert picture(queue) == before


def test_a_newer_format_is_refused(queue: pathlib.Path) -> None:
    with lmdb.open(str(queue), max_dbs=20) as env, env.begin(write=True) as txn:
        txn.put(b"format", msgspec.msgpack.encode(["persipubsub", 999]), db=env.open_db(b"queue_db", txn, create=False))
    before = picture(queue)
    ((kind, text, _),) = open_each(queue)
    assert kind == "FormatVersionError"
    assert "999" in text
    assert "upgrade" in text
    assert picture(queue) == before


@pytest.mark.parametrize(
    "record", [None, b"", b"nonsense", msgspec.msgpack.encode(["other", 1]), msgspec.msgpack.encode(1)]
)
def test_a_queue_without_its_mark_is_none(queue: pathlib.Path, record: bytes | None) -> None:
    with lmdb.open(str(queue), max_dbs=20) as env, env.begin(write=True) as txn:
        database = env.open_db(b"queue_db", txn, create=False)
        if record is None:
            txn.delete(b"format", db=database)
        else:
            txn.put(b"format", record, db=database)
    before = picture(queue)
    ((kind, _, _),) = open_each(queue)
    assert kind == "NotAQueueError"
    assert picture(queue) == before


# -- damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.PROCESS])
def test_a_truncated_data_file_is_found(tmp_path: pathlib.Path, durability: Durability) -> None:
    whole = deploy(tmp_path / "whole", durability)
    size = (whole / "data.mdb").stat().st_size
    used = min(size, 40 * 4096)
    points = sorted(
        {0, 1, 16, 151, 4095, 4096, 4097, 8191, 8192, 8193, *range(3 * 4096, used, 3 * 4096), used - 1, size - 1}
    )
    cut = []
    for point in points:
        copy = pathlib.Path(shutil.copytree(whole, tmp_path / f"cut-{point}"))
        os.truncate(copy / "data.mdb", point)
        cut.append(copy)
    before = [picture(copy) for copy in cut]
    answers = open_each(*cut)
    refused = 0
    for point, copy, picture_before, (kind, text, count) in zip(points, cut, before, answers, strict=True):
        if kind == "opened":
            # What was cut off is space that was reserved, or freed.
            assert (text, count) == ("[]", MESSAGES), f"cut at {point}"
        else:
            refused += 1
            assert kind == "QueueDamagedError", f"cut at {point}: {kind}: {text}"
            assert str(copy) in text
            assert picture(copy) == picture_before, f"cut at {point}"
    assert refused >= 10


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_are_found(queue: pathlib.Path, seed: int) -> None:
    noise = random.Random(seed)
    size = (queue / "data.mdb").stat().st_size
    (queue / "data.mdb").write_bytes(noise.randbytes(size if seed else 10))
    before = picture(queue)
    ((kind, text, _),) = open_each(queue)
    assert kind == "QueueDamagedError"
    assert str(queue) in text
    assert picture(queue) == before


def test_an_overwritten_meta_page_is_found(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for page in (0, 1):
        copy = pathlib.Path(shutil.copytree(queue, tmp_path / f"page-{page}"))
        with open(copy / "data.mdb", "r+b") as stream:
            stream.seek(page * 4096)
            stream.write(bytes(4096))
        before = picture(copy)
        ((kind, _, _),) = open_each(copy)
        assert kind == "QueueDamagedError"
        assert picture(copy) == before


@pytest.mark.parametrize("size", [0, 100])
@pytest.mark.parametrize("name", ["board", "posts"])
def test_a_truncated_companion_is_found(queue: pathlib.Path, name: str, size: int) -> None:
    os.truncate(queue / name, size)
    before = picture(queue)
    ((kind, text, _),) = open_each(queue)
    assert kind == "QueueDamagedError"
    assert name in text
    assert picture(queue) == before


@pytest.mark.parametrize("name", ["data.mdb", "locks", "board", "posts"])
def test_a_missing_file_makes_it_no_queue(queue: pathlib.Path, name: str) -> None:
    (queue / name).unlink()
    before = picture(queue)
    ((kind, text, _),) = open_each(queue)
    assert kind == "NotAQueueError"
    assert name in text
    assert picture(queue) == before


def test_what_can_be_made_anew_is_made_anew(queue: pathlib.Path) -> None:
    (queue / "lock.mdb").unlink()
    shutil.rmtree(queue / "bells")
    assert open_each(queue) == [("opened", "[]", MESSAGES)]
    with Environment(queue) as env:
        assert env.new_subscriber("b").get(timeout=0.05) is not None


# -- links and rights --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb", "locks", "board", "posts"])
def test_a_planted_link_is_refused(queue: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    victim = tmp_path / "victim"
    (queue / name).rename(victim)
    (queue / name).symlink_to(victim)
    before = picture(tmp_path)
    ((kind, text, _),) = open_each(queue)
    assert kind == "NotAQueueError"
    assert str(queue / name) in text
    assert "link" in text
    assert picture(tmp_path) == before


@pytest.mark.parametrize("name", ["data.mdb", "locks", "board", "posts"])
def test_a_folder_or_a_fifo_instead_of_a_file_is_refused(queue: pathlib.Path, name: str) -> None:
    (queue / name).unlink()
    os.mkfifo(queue / name)
    before = picture(queue)
    assert open_each(queue)[0][0] == "NotAQueueError"
    assert picture(queue) == before
    (queue / name).unlink()
    (queue / name).mkdir()
    assert open_each(queue)[0][0] == "NotAQueueError"


def test_a_link_to_a_queue_is_fine(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to(queue)
    assert open_each(tmp_path / "link") == [("opened", "[]", MESSAGES)]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("", 0o000),
        ("", 0o500),
        ("", 0o444),
        ("data.mdb", 0o400),
        ("data.mdb", 0o000),
        ("locks", 0o400),
        ("board", 0o400),
        ("lock.mdb", 0o000),
    ],
)
def test_a_missing_right_is_named(unprivileged: tuple[pathlib.Path, int], name: str, mode: int) -> None:
    queue, user = unprivileged
    (queue / name).chmod(mode)
    before = picture(queue)
    ((kind, text, _),) = open_each(queue, user=user)
    assert kind == "QueuePermissionError"
    assert str(queue / name if name else queue) in text
    assert picture(queue) == before


def test_an_unprivileged_user_may_have_a_queue(unprivileged: tuple[pathlib.Path, int]) -> None:
    queue, user = unprivileged
    assert open_each(queue, user=user) == [("opened", "[]", MESSAGES)]


def test_a_folder_that_cannot_be_reached(unprivileged: tuple[pathlib.Path, int]) -> None:
    queue, user = unprivileged
    queue.parent.chmod(0o000)
    ((kind, text, _),) = open_each(queue, user=user)
    assert kind == "QueuePermissionError"
    assert str(queue) in text


def test_nobody_else_may_read_a_queue(tmp_path: pathlib.Path) -> None:
    before = os.umask(0)
    try:
        path = deploy(tmp_path / "queue")
    finally:
        os.umask(before)
    for found in [path, *path.rglob("*")]:
        assert stat.S_IMODE(found.stat().st_mode) == (0o700 if found.is_dir() else 0o600), found
