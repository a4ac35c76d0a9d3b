"""Settings of queues and subscribers: what makes sense is kept, the rest is refused by name."""

import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persipubsub.errors import IdentifierError, SettingsError
from persipubsub.limits import (
    DEFAULT_MAX_BYTES,
    LARGEST_MESSAGE_BYTES,
    Durability,
    HighWaterMark,
    Retention,
    Settings,
    Strategy,
    SubscriberSettings,
    check_settings,
    check_subscriber_settings,
)


def test_defaults_lose_nothing_unread() -> None:
    settings = check_settings(Settings())
    assert settings.high_water_mark.message_timeout is None
    assert settings.high_water_mark.max_messages is None
    assert settings.high_water_mark.max_bytes == 30 * 2**30
    assert settings.strategy is Strategy.PRUNE_FIRST
    assert settings.retention is Retention.CONSUMED
    assert settings.durability is Durability.FULL
    subscriber = check_subscriber_settings(SubscriberSettings())
    assert subscriber.lease is None
    assert subscriber.max_deliveries == 20


def test_the_mark_has_the_names_of_1_0() -> None:
    mark = HighWaterMark(message_timeout=5, max_messages=7, hwm_db_size=9)
    assert (mark.message_timeout, mark.max_messages, mark.max_bytes, mark.hwm_lmdb_size) == (5, 7, 9, 9)
    assert mark == HighWaterMark(5, 7, 9)
    assert HighWaterMark().hwm_lmdb_size == DEFAULT_MAX_BYTES
    assert Strategy.__members__["prune_first"] is Strategy.PRUNE_FIRST
    assert Strategy.__members__["prune_last"] is Strategy.PRUNE_LAST
    assert [member.value for member in Strategy] == ["prune_first", "prune_last", "reject", "block"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high_water_mark": 5}, "high_water_mark must be a HighWaterMark, but is 5"),
        ({"high_water_mark": HighWaterMark(message_timeout=0)}, "message_timeout must be 0.001 seconds or more"),
        ({"high_water_mark": HighWaterMark(message_timeout=-1)}, "message_timeout must be 0.001 seconds or more"),
        ({"high_water_mark": HighWaterMark(message_timeout=math.nan)}, "message_timeout must be 0.001 seconds"),
        ({"high_water_mark": HighWaterMark(message_timeout=math.inf)}, "message_timeout must be 0.001 seconds"),
        ({"high_water_mark": HighWaterMark(max_messages=0)}, "max_messages must be 1 messages or more"),
        ({"high_water_mark": HighWaterMark(max_messages=-3)}, "max_messages must be 1 messages or more"),
        ({"high_water_mark": HighWaterMark(max_messages=True)}, "max_messages must be an int of messages"),
        ({"high_water_mark": HighWaterMark(max_messages=1.5)}, "max_messages must be an int of messages"),  # type: ignore[arg-type]
        ({"high_water_mark": HighWaterMark(max_bytes=0)}, "max_bytes must be 1 bytes or more"),
        ({"high_water_mark": HighWaterMark(max_bytes=2**63)}, "max_bytes must be 1 bytes or more"),
        ({"strategy": "prune_first"}, "strategy must be a Strategy (prune_first, prune_last, reject, block)"),
        ({"retention": None}, "retention must be a Retention (consumed, log), but is None"),
        ({"durability": 1}, "durability must be a Durability (full, commit, process), but is 1"),
        ({"max_message_bytes": None}, "max_message_bytes must be an int of bytes"),
        ({"max_message_bytes": LARGEST_MESSAGE_BYTES + 1}, "max_message_bytes must be 1 bytes or more"),
        ({"deduplication_window": -0.1}, "deduplication_window must be 0 seconds or more"),
        ({"deduplication_window": "10"}, "deduplication_window must be a number of seconds, but is '10'"),
        ({"lock_timeout": 0}, "lock_timeout must be 0.001 seconds or more"),
        ({"map_size": 1}, "map_size must be 262144 bytes or more"),
        ({"group_access": 1}, "group_access must be True or False, but is 1"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        Settings().changed(**changes)


def test_changed_leaves_the_original_alone() -> None:
    settings = Settings()
    other = settings.changed(strategy=Strategy.REJECT, map_size=2**20, group_access=True)
    assert (other.strategy, other.map_size, other.group_access) == (Strategy.REJECT, 2**20, True)
    assert settings == Settings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lease": 0}, "lease must be 0.001 seconds or more"),
        ({"lease": True}, "lease must be a number of seconds"),
        ({"max_deliveries": 0}, "max_deliveries must be 1 deliveries or more"),
        ({"max_deliveries": 2.0}, "max_deliveries must be an int of deliveries"),
        ({"ephemeral": "yes"}, "ephemeral must be True or False, but is 'yes'"),
    ],
)
def test_bad_subscriber_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        check_subscriber_settings(msgspec.structs.replace(SubscriberSettings(), **changes))


def test_the_filter_of_a_subscriber_is_checked() -> None:
    with pytest.raises(IdentifierError, match="empty token"):
        check_subscriber_settings(SubscriberSettings(topic_filter="a..b"))
    settings = SubscriberSettings(lease=1.5, max_deliveries=None, topic_filter="a.>", ephemeral=True)
    assert check_subscriber_settings(settings) is settings


@given(
    timeout=st.none() | st.floats(),
    messages=st.none() | st.integers(),
    size=st.none() | st.integers(),
    window=st.floats(),
)
def test_numbers_are_taken_exactly_when_in_range(
    timeout: float | None, messages: int | None, size: int | None, window: float
) -> None:
    settings = Settings(high_water_mark=HighWaterMark(timeout, messages, size), deduplication_window=window)
    good = (
        (timeout is None or 1e-3 <= timeout <= 2**33)
        and all(number is None or 1 <= number <= 2**62 for number in (messages, size))
        and 0 <= window <= 2**33
    )
    if good:
        assert check_settings(settings) is settings
    else:
        with pytest.raises(SettingsError):
            check_settings(settings)


def test_settings_survive_json() -> None:
    settings = Settings(
        high_water_mark=HighWaterMark(2.5, 10, None), strategy=Strategy.BLOCK, durability=Durability.PROCESS
    )
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
