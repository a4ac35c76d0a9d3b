"""Finds where in the order of messages something lies: the first, the latest, an id or a moment."""

import datetime

from persipubsub.arguments import check_id
from persipubsub.engine.base import Engine
from persipubsub.errors import PositionError

Position = str | int | datetime.datetime
"""``"first"`` (the oldest retained), ``"latest"`` (only what comes next), an id, or an aware datetime."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def check_position(position: object) -> Position:
    """Check that ``position`` means something and return it.

    :raise PositionError: it does not
    """
    if isinstance(position, datetime.datetime):
        if position.utcoffset() is None:
            raise PositionError(
                f"{position!r} has no time zone, so it is no moment; use datetime.now(timezone.utc) or astimezone()."
            )
        return position
    if isinstance(position, str):
        if position not in ("first", "latest"):
            raise PositionError(f"A position is 'first', 'latest', an id or an aware datetime, not {position!r}.")
        return position
    return check_id(position, PositionError)


def nanoseconds(moment: datetime.datetime) -> int:
    """Return an aware datetime as nanoseconds since the epoch; before it, zero."""
    return max(0, (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000)


def resolve(engine: Engine, position: Position) -> int:
    """Return the id that ``position`` stands for at this moment."""
    if isinstance(position, datetime.datetime):
        return _first_sent_since(engine, nanoseconds(position))
    if isinstance(position, int):
        return position
    first, following = engine.bounds()
    return first if position == "first" else following


def _first_sent_since(engine: Engine, sent_ns: int) -> int:
    """Search by halves: along the ids the times never go backwards."""
    low, high = engine.bounds()
    while low < high:
        middle = (low + high) // 2
        page = engine.browse(middle, 1)
        if not page or page[0].sent_ns >= sent_ns:
            high = middle
        else:
            low = page[0].id + 1
    return low
