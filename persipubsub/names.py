"""Rules for identifiers, topics and topic filters.

Topics and filters follow NATS: tokens separated by dots; in a filter ``*`` stands for exactly one
token and ``>``, as the last token, for one or more.
"""

from functools import lru_cache
from unicodedata import category

from persipubsub.errors import IdentifierError

MAX_IDENTIFIER_BYTES = 255
MAX_TOPIC_BYTES = 255


def encode_name(name: object, what: str) -> bytes:
    r"""Encode ``name`` as UTF-8 after checking the rules; ``what`` names it in the error.

    >>> encode_name("café", "identifier")
    b'caf\xc3\xa9'

    :raise IdentifierError: not a str, empty, too long, not UTF-8, or with control characters
    """
    if not isinstance(name, str):
        raise IdentifierError(f"The {what} must be a str, but is {type(name).__name__}: {name!r}")
    if not name:
        raise IdentifierError(f"The {what} is empty; give it 1 to {MAX_IDENTIFIER_BYTES} bytes of UTF-8.")
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise IdentifierError(f"The {what} {name!r} cannot be written as UTF-8: {error.reason}.") from None
    if len(encoded) > MAX_IDENTIFIER_BYTES:
        raise IdentifierError(
            f"The {what} has {len(encoded)} bytes, at most {MAX_IDENTIFIER_BYTES} are allowed: {name[:40]!r}…"
        )
    if any(category(character) == "Cc" for character in name):
        raise IdentifierError(f"The {what} {name!r} has control characters; use printable ones.")
    return encoded


def check_topic(topic: object) -> str:
    """Check a topic of a message and return it.

    >>> check_topic("camera.left.frame")
    'camera.left.frame'

    :raise IdentifierError: malformed
    """
    text, tokens = _tokens(topic, "topic")
    for token in tokens:
        if token in ("*", ">"):
            raise IdentifierError(f"The topic {text!r} has the wildcard {token!r}, which only filters may have.")
    return text


def check_filter(topic_filter: object) -> str:
    """Check a subscriber's filter and return it.

    >>> check_filter("camera.*.>")
    'camera.*.>'

    :raise IdentifierError: malformed
    """
    text, tokens = _tokens(topic_filter, "topic filter")
    if ">" in tokens[:-1]:
        raise IdentifierError(f"The topic filter {text!r} has '>' before the end; it stands for all that follows.")
    return text


def _tokens(name: object, what: str) -> tuple[str, list[str]]:
    encode_name(name, what)
    text = str(name)
    tokens = text.split(".")
    for token in tokens:
        if not token:
            raise IdentifierError(f"The {what} {text!r} has an empty token; separate tokens with single dots.")
        if any(character.isspace() for character in token):
            raise IdentifierError(f"The {what} {text!r} has white space; use tokens such as 'camera.left'.")
    return text, tokens


@lru_cache(maxsize=4096)
def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether ``topic`` passes ``topic_filter``.

    >>> matches("camera.*", "camera.left"), matches("camera.*", "camera.left.raw")
    (True, False)
    >>> matches("camera.>", "camera.left.raw")
    True
    """
    wanted = topic_filter.split(".")
    given = topic.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or (token != "*" and token != given[index]):
            return False
    return len(wanted) == len(given)
