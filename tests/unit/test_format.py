"""The bytes on disk: fixed once and for all, and every damage found."""

import inspect
import string
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persipubsub.engine.local import format
from persipubsub.engine.local.format import Meta

NUMBERS = st.integers(0, 2**64 - 1)
PAYLOADS = st.binary(max_size=200)
TOPICS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
METAS = st.builds(
    Meta,
    sent_ns=NUMBERS,
    checksum=st.just(0),
    not_before_ns=NUMBERS,
    expires_ns=NUMBERS,
    topic=TOPICS,
    headers=st.binary(max_size=100),
)
RECORDS: dict[type[Any], Callable[[bytes], Any]] = {
    format.State: format.decode_state,
    format.Subscriber: format.decode_subscriber,
    format.Hold: format.decode_hold,
    format.OwnerRecord: format.decode_owner,
    format.DeadRecord: format.decode_dead,
    format.Gone: format.decode_gone,
}


# -- golden bytes: a change here is a new format version -----------------------------------------------


def test_the_names_of_the_sub_databases() -> None:
    assert format.FORMAT_VERSION == 1
    assert format.FIXED_DBS == (
        b"data_db",
        b"meta_db",
        b"pending_db",
        b"queue_db",
        b"subscriber_db",
        b"gone_db",
        b"deduplication_db",
        b"block_db",
    )
    assert format.subscriber_db(b"data_db") == b"queue/data_db"
    keys = (format.KEY_FORMAT, format.KEY_IDENTITY, format.KEY_CREATED, format.KEY_STATE, format.SETTING_PREFIX)
    assert keys == (b"format", b"identity", b"created", b"state", b"setting/")


def test_the_kinds_of_records_are_told_apart_by_their_first_byte() -> None:
    kinds = [
        format.LEASED,
        format.READY,
        format.DELAYED,
        format.DUE,
        format.ENDING,
        format.AHEAD,
        format.OWNER,
        format.DEAD,
        format.OWN_DATA,
        format.REQUEUED,
    ]
    assert b"".join(kinds) == b"LRWDESOXYZ"
    assert format.POSITIONS + format.HOLDERS == b"ph"
    assert format.SEEN + format.SEEN_AT == b"it"


def test_ids_are_big_endian() -> None:
    assert format.pack_id(0x0102030405060708) == bytes(range(1, 9))
    assert format.unpack_id(b"L" + bytes(range(1, 9)), 1) == 0x0102030405060708


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        (Meta(1_700_000_000_000_000_000), "17979cfe362a0000 2488f9b52b68ef94 00"),
        (
            Meta(1, not_before_ns=2, expires_ns=3, topic="a.é", headers=b"\x81\xa1h\xa1v"),
            "0000000000000001 @ 0f 0000000000000002 0000000000000003 0004 612ec3a9 81a168a176",
        ),
    ],
)
def test_golden_metadata(meta: Meta, expected: str) -> None:
    packed = format.pack_meta(7, format.payload_digest(b"payload"), meta)
    checksum = packed[8:16].hex()
    assert packed.hex() == expected.replace("@", checksum).replace(" ", "")


def test_golden_checksum() -> None:
    assert format.payload_digest(b"") == 0x2D06800538D394C2
    assert format.pack_meta(7, format.payload_digest(b"payload"), Meta(1, topic="t"))[8:16].hex() == "07407b9a525bf766"


GOLDEN: list[tuple[msgspec.Struct, str]] = [
    (
        format.State(
            next_id=300,
            messages=2,
            payload_bytes=70_000,
            last_sent_ns=1_700_000_000_000_000_000,
            subscribers=1,
            low=298,
        ),
        "dc0016cd012c02ce00011170cf17979cfe362a000001cd012a01010000000000000000010090000000",
    ),
    (
        format.State(next_id=5000, doomed=((0, 40), (70, 300)), front=3, tail_messages=904, tail_bytes=90_400),
        "dc0016cd13880000000001010100000000000000000100929200289246cd012c03cd0388ce00016120",
    ),
    (
        format.Subscriber(
            1, 298, 1_700_000_000_000_000_000, 0, lease_ns=30_000_000_000, max_deliveries=20, topic_filter="a.>"
        ),
        "dc001901cd012acf17979cfe362a000000cf00000006fc23ac0014a3612e3ec0c200000000000000000000000000000000",
    ),
    (format.Hold(), "9c00000000000000c0ff00c2c2"),
    (
        format.Hold(token=5, count=2, first_received_ns=9, owner=77, deadline_ns=10**12, error="why"),
        "9c050209004dcf000000e8d4a5100000a3776879ff00c2c2",
    ),
    (format.OwnerRecord(42, 4026531836, 9, "python worker.py"), "942aceeffffffc09b0707974686f6e20776f726b65722e7079"),
    (format.DeadRecord(b"meta", 9, 3, "too dark"), "94c4046d6574610903a8746f6f206461726b"),
    (format.Gone(300, format.OVERFLOW, 2), "93cd012c0102"),
]


@pytest.mark.parametrize(("record", "expected"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_records(record: msgspec.Struct, expected: str) -> None:
    assert format.encode(record).hex() == expected
    assert RECORDS[type(record)](bytes.fromhex(expected)) == record


def test_every_record_has_a_golden_one() -> None:
    kinds = {kind for _, kind in inspect.getmembers(format, inspect.isclass) if issubclass(kind, msgspec.Struct)}
    assert kinds - {Meta, msgspec.Struct} == set(RECORDS) == {type(record) for record, _ in GOLDEN}


# -- round trips -------------------------------------------------------------------------------------


@given(NUMBERS)
def test_ids_come_back_and_keep_their_order(number: int) -> None:
    assert format.unpack_id(format.pack_id(number)) == number
    if number:
        assert format.pack_id(number - 1) < format.pack_id(number)


@given(NUMBERS, PAYLOADS, METAS)
def test_metadata_comes_back(message_id: int, payload: bytes, meta: Meta) -> None:
    packed = format.pack_meta(message_id, format.payload_digest(payload), meta)
    found = format.unpack_meta(packed)
    meta.checksum = found.checksum
    assert found == meta
    assert format.unpack_meta(memoryview(packed)) == meta
    assert format.sent_at(packed) == meta.sent_ns
    assert format.is_intact(message_id, packed, payload)
    assert format.is_intact(message_id, memoryview(packed), memoryview(payload))


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_records_come_back(kind: type[msgspec.Struct]) -> None:
    strategy = st.from_type(kind)

    @given(strategy)
    def comes_back(record: msgspec.Struct) -> None:
        try:
            packed = format.encode(record)
        except (OverflowError, UnicodeEncodeError):
            return  # nothing that a queue counts
        assert RECORDS[kind](packed) == record

    comes_back()


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_a_later_version_may_append_fields(kind: type[msgspec.Struct]) -> None:
    record = next(record for record, _ in GOLDEN if type(record) is kind)
    fields = msgspec.msgpack.decode(format.encode(record))
    assert RECORDS[kind](msgspec.msgpack.encode([*fields, "from a later version"])) == record


# -- damage ------------------------------------------------------------------------------------------


@given(NUMBERS, PAYLOADS, METAS, st.data())
def test_any_flipped_bit_is_found(message_id: int, payload: bytes, meta: Meta, data: st.DataObject) -> None:
    packed = format.pack_meta(message_id, format.payload_digest(payload), meta)
    at = data.draw(st.integers(0, 8 * (len(packed) + len(payload) + 8) - 1))
    everything = bytearray(format.pack_id(message_id) + packed + payload)
    everything[at // 8] ^= 1 << at % 8
    damaged_id = format.unpack_id(bytes(everything[:8]))
    damaged = bytes(everything[8 : 8 + len(packed)]), bytes(everything[8 + len(packed) :])
    assert not format.is_intact(damaged_id, *damaged)


def test_every_bit_of_one_message() -> None:
    meta = Meta(1_700_000_000_000_000_000, not_before_ns=1, expires_ns=2, topic="a.b", headers=b"\x81\xa1h\xa1v")
    payload = string.ascii_letters.encode()
    packed = format.pack_meta(1, format.payload_digest(payload), meta)
    for where in (packed, payload):
        for bit in range(8 * len(where)):
            damaged = bytearray(where)
            damaged[bit // 8] ^= 1 << bit % 8
            record, data = (bytes(damaged), payload) if where is packed else (packed, bytes(damaged))
            assert not format.is_intact(1, record, data)


@given(NUMBERS, PAYLOADS, METAS, st.integers(1, 300))
def test_a_message_that_was_cut_is_found(message_id: int, payload: bytes, meta: Meta, cut: int) -> None:
    packed = format.pack_meta(message_id, format.payload_digest(payload), meta)
    assert not format.is_intact(message_id, packed[:-cut], payload)
    if payload:
        assert not format.is_intact(message_id, packed, payload[:-cut])
    assert not format.is_intact(message_id, packed, payload + b"\0")


@given(st.binary(max_size=100))
def test_nonsense_is_metadata_or_a_value_error(nonsense: bytes) -> None:
    assert not format.is_intact(1, nonsense, b"payload")
    try:
        found = format.unpack_meta(nonsense)
    except ValueError:
        return
    assert isinstance(found, Meta)


@given(st.binary(max_size=100))
def test_nonsense_is_a_record_or_a_value_error(nonsense: bytes) -> None:
    for kind, decode in RECORDS.items():
        try:
            found = decode(nonsense)
        except (ValueError, msgspec.MsgspecError):
            continue
        assert isinstance(found, kind)
