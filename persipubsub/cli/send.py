"""``persipubsub send``."""

import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from persipubsub.cli import progress
from persipubsub.cli.finding import split
from persipubsub.cli.options import ConfigOption, QueueOption
from persipubsub.environment import Environment
from persipubsub.errors import MessageTooLargeError, QueueFullError
from persipubsub.message import Draft
from persipubsub.publisher import Publisher

NAME = "send"
HELP = """Send messages and print their ids.

The messages are the words after the queue, as UTF-8; or the files given by --file, one message
each; or else the lines of the standard input, one message each, sent as they come.

\b
Example: persipubsub send ./queues/frames "hello" --header camera=left --topic camera.left
"""


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH MESSAGE", help="Directory of the queue; messages.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    file: Annotated[
        list[pathlib.Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Send this file; its name goes along as header 'filename'."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="KEY=VALUE", help="A header; may be repeated.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Topic, tokens separated by dots.")] = None,
    delay: Annotated[float | None, typer.Option(metavar="SECONDS", help="Deliver not before.")] = None,
    expires_in: Annotated[float | None, typer.Option(metavar="SECONDS", help="Deliver not after.")] = None,
    deduplication_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Store nothing if this id was sent a short time ago.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Wait at most so long for room (strategy block).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no ids.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object with the id for each message.")] = False,
) -> None:
    """Send messages."""
    path, texts = split(arguments, config, queue, alone=not file)
    headers = _headers(header or [])
    options: dict[str, Any] = {
        "topic": topic,
        "delay": delay,
        "expires_in": expires_in,
        "deduplication_id": deduplication_id,
    }
    if texts and file:
        raise typer.BadParameter("Give either messages or --file, not both.")
    if quiet and as_json:
        raise typer.BadParameter("Give either --quiet or --json, not both.")
    if deduplication_id is not None and len(texts) + len(file or []) != 1:
        raise typer.BadParameter("--deduplication-id is for one message: give one, as an argument or with --file.")
    typed = not texts and not file and sys.stdin.isatty()
    with (
        Environment(path) as environment,
        environment.new_publisher() as publisher,
        # Ids on a terminal show how far it is, and what is typed there must not be written over.
        progress.working("sending", len(texts or file or []) or None, beside=not quiet, hidden=typed) as report,
    ):
        done = 0
        for ids in _sent(publisher, texts, file or [], headers, options, timeout):
            if not quiet:
                _print(ids, as_json)
            done += len(ids)
            report(done)


def _sent(
    publisher: Publisher,
    texts: list[str],
    files: list[pathlib.Path],
    headers: dict[str, str],
    options: dict[str, Any],
    timeout: float | None,
) -> Iterator[list[int]]:
    """Send everything and give the ids, as soon as they are known."""
    for one in files:
        own = {"filename": one.name, **headers}
        yield [publisher.send(one.read_bytes(), headers=own, timeout=timeout, **options)]
    if files:
        return
    batches = iter([[text.encode("utf-8", "surrogateescape") for text in texts]]) if texts else _lines()
    for batch in batches:
        drafts = [Draft(data, headers=headers or None, **options) for data in batch]
        if len(drafts) > 1:
            try:
                yield list(publisher.send_many(drafts, timeout=timeout))
                continue
            except (MessageTooLargeError, QueueFullError):
                # Together they do not fit, and nothing of them was stored; one by one they may.
                pass
        for draft in drafts:
            yield [publisher.send(draft, timeout=timeout)]


def _headers(pairs: list[str]) -> dict[str, str]:
    result = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"A header is KEY=VALUE, but this is {pair!r}.")
        result[key] = value
    return result


def _lines() -> Iterator[list[bytes]]:
    """Give the lines of the standard input in batches, each as soon as it is there."""
    descriptor = sys.stdin.fileno()
    rest = b""
    while chunk := os.read(descriptor, 1 << 20):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _print(ids: list[int], as_json: bool) -> None:
    sys.stdout.write("".join(f'{{"id": {one}}}\n' if as_json else f"{one}\n" for one in ids))
    sys.stdout.flush()
