"""The page on the on-disk format is exact: a program in C that was written after it reads queues."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from persipubsub import Draft, Durability, Environment, HighWaterMark, Retention, Strategy
from tests.examples.support import EXAMPLES, page_of

SOURCE = EXAMPLES / "reader_in_c" / "reader.c"
#: The compiler of the machine, else one from PyPI, which takes longer.
COMPILER = ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled program."""
    program = tmp_path_factory.mktemp("reader") / "reader"
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*COMPILER, *flags, "-o", program, SOURCE], check=True, timeout=110, capture_output=True)
    return program


def read(reader: Path, file: Path) -> list[str]:
    outcome = subprocess.run([reader, file], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.splitlines()


DRAFTS = [
    Draft(b""),
    Draft(b"plain"),
    Draft(b"\0\xff" * 50_000),  # pages of its own
    Draft(b"topic", topic="camera.left"),
    Draft(b"headers", headers={"trace": "42", "raw": b"\0\1", "long": "x" * 300}),
    Draft(b"later", delay=3600),
    Draft(b"for a while", expires_in=7200),
    Draft(b"all", headers={"a": "b"}, topic="a.b.c", delay=1.5, expires_in=9),
    Draft(b"many headers", headers={f"key {number}": "v" for number in range(20)}),
]


def expected(message_id: int, sent_ns: int, draft: Draft) -> str:
    """Return the line for a message, but for its checksum."""
    parts = [f"message {message_id} sent {sent_ns}"]
    if draft.delay:
        parts.append(f"not_before {sent_ns + round(draft.delay * 10**9)}")
    if draft.expires_in:
        parts.append(f"expires {sent_ns + round(draft.expires_in * 10**9)}")
    if draft.topic:
        parts.append(f"topic {draft.topic}")
    for key, value in (draft.headers or {}).items():
        raw = value.encode() if isinstance(value, str) else value
        parts.append(f"header {key}={raw.hex()}")
    return " ".join([*parts, f"payload {draft.data.hex()}"])


@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("repetitions", [1, 60])
def test_it_reads_what_was_sent(reader: Path, tmp_path: Path, durability: Durability, repetitions: int) -> None:
    drafts = DRAFTS * repetitions
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"ann", "bob"}, durability=durability, retention=Retention.LOG, map_size=2**24)
        ids = env.new_publisher().send_many(drafts)
        assert env.new_subscriber("bob").ack(ids[:3]) == 3
        identity = control.statistics().identity
        records = list(control._engine().browse(1, len(drafts)))
    found = read(reader, tmp_path / "queue" / "data.mdb")
    assert found[:2] == ["format persipubsub 1", f"queue {identity}"]
    assert found[-2:] == ["subscriber ann position 1", "subscriber bob position 4"]
    words = [line.split(" ") for line in found[2:-2]]
    assert all(line[4] == "checksum" and len(line[5]) == 16 for line in words)
    assert [" ".join(line[:4] + line[6:]) for line in words] == [
        expected(record.id, record.sent_ns, draft) for record, draft in zip(records, drafts, strict=True)
    ]


def test_it_reads_after_deletions(reader: Path, tmp_path: Path) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control({"ann"})
        publisher, subscriber = env.new_publisher(), env.new_subscriber("ann")
        for number in range(30):
            held = subscriber.get_many(2, timeout=0)
            assert len(held) == (2 if number else 0)
            subscriber.ack(publisher.send_many([b"%d" % number * 500] * 40)[:-2])
            for message in held:
                message.ack()
        kept = [(message.id, message.data) for message in env.browse()]
    assert 0 < len(kept) < 100
    lines = [line.split(" ") for line in read(reader, tmp_path / "queue" / "data.mdb") if line.startswith("message")]
    assert [(int(line[1]), bytes.fromhex(line[-1])) for line in lines] == kept


@pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
def test_it_passes_what_a_limit_took_and_is_not_deleted_yet(reader: Path, tmp_path: Path, strategy: Strategy) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control({"ann"}, HighWaterMark(max_messages=1000), strategy=strategy)
        publisher = env.new_publisher()
        publisher.send_many([b"%d" % number for number in range(1000)])
        publisher.send(b"one more")
        kept = [(message.id, message.data) for message in env.browse()]
    assert len(kept) == 501
    lines = [line.split(" ") for line in read(reader, tmp_path / "queue" / "data.mdb") if line.startswith("message")]
    assert [(int(line[1]), bytes.fromhex(line[-1])) for line in lines] == kept


def test_a_queue_without_messages(reader: Path, tmp_path: Path) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control()
    assert [line.split()[0] for line in read(reader, tmp_path / "queue" / "data.mdb")] == ["format", "queue"]


def test_what_is_damaged_or_something_else_is_an_error(reader: Path, tmp_path: Path) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control({"ann"})
        env.new_publisher().send_many(DRAFTS)
    whole = (tmp_path / "queue" / "data.mdb").read_bytes()
    file = tmp_path / "file"
    for content in (b"", b"no queue" * 2000, whole[:4096], whole[: 4096 * 3], b"\xff" * len(whole)):
        file.write_bytes(content)
        outcome = subprocess.run([reader, file], capture_output=True, timeout=60, check=False)
        assert outcome.returncode == 1
        assert outcome.stderr.startswith(b"reader: ")


def test_the_page_tells_its_size() -> None:
    lines = len(SOURCE.read_text(encoding="utf-8").splitlines())
    assert f"in {lines} lines" in " ".join(page_of("reader_in_c").split())
