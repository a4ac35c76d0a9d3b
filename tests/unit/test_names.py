"""Identifiers, topics and filters."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persipubsub.errors import IdentifierError
from persipubsub.names import MAX_IDENTIFIER_BYTES, check_filter, check_topic, encode_name, matches

TOKENS = st.text(st.characters(categories=["L", "N", "Pd", "So"]), min_size=1, max_size=5)
TOPICS = st.lists(TOKENS, min_size=1, max_size=5).map(".".join)


@given(st.text())
def test_every_text_is_encoded_or_refused(name: str) -> None:
    encoded = name.encode("utf-8", errors="surrogatepass")
    good = (
        0 < len(encoded) <= MAX_IDENTIFIER_BYTES
        and not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
    )  # fmt: skip
    if good:
        assert encode_name(name, "identifier") == encoded
    else:
        with pytest.raises(IdentifierError, match="identifier"):
            encode_name(name, "identifier")


@pytest.mark.parametrize("name", ["a", "data_db", "queue/a", "ä" * 127, "x" * 255, "../etc", " "])
def test_unusual_names_are_fine(name: str) -> None:
    assert encode_name(name, "identifier").decode() == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("x" * 256, "has 256 bytes, at most 255"),
        ("ä" * 128, "has 256 bytes"),
        ("a\nb", "control characters"),
        ("a\x00", "control characters"),
        ("\x7f", "control characters"),
        ("\x85", "control characters"),
        ("\ud800", "cannot be written as UTF-8"),
        (b"a", "must be a str, but is bytes"),
        (None, "must be a str, but is NoneType"),
        (7, "must be a str, but is int"),
    ],
)
def test_bad_names_are_refused(name: object, message: str) -> None:
    with pytest.raises(IdentifierError, match=message):
        encode_name(name, "identifier")


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("", "topic is empty"),
        (".", "empty token"),
        ("a.", "empty token"),
        (".a", "empty token"),
        ("a..b", "empty token"),
        ("a b", "white space"),
        ("a.\u2003", "white space"),
        ("a.*", r"wildcard '\*'"),
        (">", "wildcard '>'"),
        (b"a", "must be a str"),
        ("x" * 256, "at most 255"),
    ],
)
def test_bad_topics_are_refused(topic: object, message: str) -> None:
    with pytest.raises(IdentifierError, match=message):
        check_topic(topic)


@pytest.mark.parametrize(
    ("topic_filter", "message"),
    [
        ("", "topic filter is empty"),
        ("a..b", "empty token"),
        ("a.>.b", "'>' before the end"),
        (">.>", "'>' before the end"),
        ("a b", "white space"),
        (None, "must be a str"),
    ],
)
def test_bad_filters_are_refused(topic_filter: object, message: str) -> None:
    with pytest.raises(IdentifierError, match=message):
        check_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("*.*", "a.b", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.d", False),
        (">", "a", True),
        (">", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.b", True),
        ("a.>", "b.a", False),
        ("a.*.>", "a.b", False),
        ("a.*.>", "a.b.c.d", True),
        ("a*", "ab", False),
        ("a*", "a*", True),
    ],
)
def test_matching_follows_nats(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(check_filter(topic_filter), check_topic(topic)) is expected


@given(TOPICS)
def test_a_topic_is_a_filter_that_matches_itself_alone(topic: str) -> None:
    assert check_topic(topic) == check_filter(topic) == topic
    assert matches(topic, topic)
    assert not matches(topic, topic + ".more")


@given(TOPICS, st.data())
def test_wildcards_widen(topic: str, data: st.DataObject) -> None:
    tokens = topic.split(".")
    place = data.draw(st.integers(0, len(tokens) - 1))
    starred = ".".join([*tokens[:place], "*", *tokens[place + 1 :]])
    assert matches(check_filter(starred), topic)
    tail = ".".join([*tokens[:place], ">"])
    assert matches(check_filter(tail), topic)
    assert not matches(topic + ".>", topic)
