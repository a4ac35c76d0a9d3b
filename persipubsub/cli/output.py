"""How commands print: tables with colours on a terminal, plain text elsewhere, JSON for scripts."""

import base64
import datetime
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def console(*, stderr: bool = False) -> Console:
    """Return a rich console; colours and width come from the terminal, if it is one."""
    result = Console(stderr=stderr, highlight=False)
    if not result.is_terminal:
        # A table in a file or a pipe is not cut at the width of a terminal that is not there.
        result.width = 10_000
    return result


def print_json(value: Any) -> None:
    """Print one line of JSON and flush it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table; columns whose name starts with ``#`` are numbers."""
    result = Table(
        title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold"
    )
    for column in columns:
        result.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    return result


def moment(nanoseconds: int | None) -> str | None:
    """Return nanoseconds since the epoch as an ISO 8601 time, UTC."""
    if nanoseconds is None:
        return None
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.UTC).isoformat(timespec="milliseconds")


def payload(data: bytes) -> dict[str, str]:
    """Return a payload for JSON: as ``data`` if it is text, as ``base64`` if not."""
    try:
        return {"data": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def headers(mapping: Mapping[str, str | bytes]) -> dict[str, Any]:
    """Return headers for JSON; a value of bytes that is no text becomes an object with ``base64``."""
    result: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, bytes):
            encoded = payload(value)
            result[name] = encoded.get("data", encoded)
        else:
            result[name] = value
    return result


class Letter(Protocol):
    """What messages, retained messages and dead letters have in common."""

    @property
    def id(self) -> int:
        """Return the id."""

    @property
    def topic(self) -> str | None:
        """Return the topic."""

    @property
    def headers(self) -> Mapping[str, str | bytes]:
        """Return the headers."""

    @property
    def sent(self) -> datetime.datetime:
        """Return when it was sent."""


def message_json(message: Letter, data: bytes, **details: Any) -> dict[str, Any]:
    """Return everything about a message for JSON."""
    return {
        "id": message.id,
        "sent": message.sent.isoformat(),
        "topic": message.topic,
        "headers": headers(message.headers),
        **details,
        **payload(data),
    }
