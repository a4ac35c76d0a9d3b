"""What the processes of the demo do; each is the ``main`` of a process of its own."""

import hashlib
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable
from multiprocessing.synchronize import Event

import msgspec

from persipubsub.demo.files import read, read_manifest
from persipubsub.demo.journal import Journal
from persipubsub.environment import Environment
from persipubsub.errors import PersipubsubError
from persipubsub.message import Message

#: Seconds that a worker waits, with a message in its hands, for being killed.
PATIENCE = 120.0
#: Seconds between two looks whether the job is over.
TICK = 0.25


class Task(msgspec.Struct, frozen=True):
    """What a process needs to know; the same for all of them.

    :param config: deployment file
    :param queue: name of the queue in it
    :param journal: file to write to
    """

    config: pathlib.Path
    queue: str
    journal: pathlib.Path


def publish(task: Task, folder: pathlib.Path, manifest: pathlib.Path, part: int, parts: int) -> None:
    """Send every ``parts``-th file from ``part`` on, one message each."""

    def send(journal: Journal) -> None:
        with Environment.from_config(task.config, task.queue) as environment:
            publisher = environment.new_publisher()
            journal.write("ready")
            for original in read_manifest(manifest)[part::parts]:
                data = read(folder, original.path)
                sha256 = hashlib.sha256(data).hexdigest()
                # A file's name is bytes to the system, and need not be text.
                headers: dict[str, str | bytes] = {"path": os.fsencode(original.path), "sha256": sha256}
                message_id = publisher.send(data, headers=headers)
                journal.write("sent", id=message_id, path=original.path, sha256=sha256, size=len(data))

    _run(task, send)


def consume(task: Task, subscriber: str, batch: int, stop: Event) -> None:
    """Handle messages in batches until ``stop``."""

    def handle(journal: Journal) -> None:
        with (
            Environment.from_config(task.config, task.queue) as environment,
            environment.new_subscriber(subscriber) as receiver,
        ):
            journal.write("ready")
            while not stop.is_set():
                with receiver.messages(batch=batch, timeout=TICK) as messages:
                    for message in messages:
                        _record(journal, message)

    _run(task, handle)


def work(task: Task, subscriber: str, stop: Event, share: int | None, others: Event | None) -> None:
    """Compete for messages, one at a time, until ``stop``.

    After ``share`` messages, wait for ``others`` before taking more, so that a competitor gets its share, too.
    """

    def handle(journal: Journal) -> None:
        handled = 0
        with (
            Environment.from_config(task.config, task.queue) as environment,
            environment.new_subscriber(subscriber) as receiver,
        ):
            journal.write("ready")
            while not stop.is_set():
                if share is not None and others is not None and handled >= share and not others.wait(TICK):
                    continue
                with receiver.receive_message(timeout=TICK) as message:
                    if message is not None:
                        _record(journal, message)
                        handled += 1

    _run(task, handle)


def work_until_killed(task: Task, subscriber: str, handle_first: int) -> None:
    """Compete for messages; after ``handle_first`` take one more, say so, and never finish it."""

    def handle(journal: Journal) -> None:
        with (
            Environment.from_config(task.config, task.queue) as environment,
            environment.new_subscriber(subscriber) as receiver,
        ):
            journal.write("ready")
            handled = 0
            while True:
                with receiver.receive_message(timeout=PATIENCE) as message:
                    if message is None:
                        raise TimeoutError(f"no message within {PATIENCE:g} s")
                    if handled == handle_first:
                        journal.write("holding", id=message.id, path=_path(message))
                        threading.Event().wait(PATIENCE)
                        raise TimeoutError(f"not killed within {PATIENCE:g} s")
                    _record(journal, message)
                    handled += 1

    _run(task, handle)


def _run(task: Task, job: Callable[[Journal], None]) -> None:
    """Do ``job``, write down how it ended, and end with the parent, whatever happens to it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    journal = Journal(task.journal)
    try:
        job(journal)
    except (PersipubsubError, OSError) as error:
        journal.write("failed", error=f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
    journal.write("finished")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _record(journal: Journal, message: Message[bytes]) -> None:
    journal.write(
        "received",
        id=message.id,
        path=_path(message),
        sha256=hashlib.sha256(message.data).hexdigest(),
        declared=_text(message.headers.get("sha256", "")),
        size=len(message.data),
        redelivered=message.delivery_count > 1,
    )


def _path(message: Message[bytes]) -> str:
    return _text(message.headers.get("path", ""))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else os.fsdecode(value)
