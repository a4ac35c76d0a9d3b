"""Positions as they are written on the command line."""

import datetime

import typer

from persipubsub.retained.positions import Position


def parse_position(text: str) -> Position:
    """Return what ``text`` means: ``first``, ``latest``, an id, or a time (local unless it says otherwise).

    >>> parse_position("42")
    42

    :raise typer.BadParameter: it is none of these
    """
    if text in ("first", "latest"):
        return text
    if text.isascii() and text.isdigit():
        return int(text[:21])
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no position; give 'first', 'latest', an id, or a time such as 2030-01-31T12:00."
        ) from None
    return moment.astimezone()
