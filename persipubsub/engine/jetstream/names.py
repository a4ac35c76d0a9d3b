"""What streams, subjects and consumers are called; pure.

========================================  ===========================================================
name                                      what it is
========================================  ===========================================================
stream ``persipubsub-Q``                  the messages of the queue Q
stream ``persipubsub-Q=dead``             dead letters
stream ``persipubsub-Q=state``            the subscribers, and notes about messages that came back
``persipubsub.Q.m.p``                     a message without a topic
``persipubsub.Q.m.t.<topic>``             a message with a topic
``persipubsub.Q.again.S``                 a dead letter that the subscriber S shall get once more
``persipubsub.Q.dead.S.<id>``             a dead letter of S
``persipubsub.Q.state.live.roster``       the subscribers
``persipubsub.Q.state.live.settings``     says that the settings have changed
``persipubsub.Q.state.note.S.<id>``       a note of S about a message
``persipubsub.Q.state.beat.S``            a sign of life of the owner of S, which is ephemeral
========================================  ===========================================================

Q, S and the tokens of topics are encoded: letters, digits, ``-`` and ``_`` stand for themselves, any other byte is
``=`` with two hexadecimal digits. What becomes too long is cut and told apart by a hash.
"""

import secrets

import xxhash

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_LONGEST = 120


def encode(text: str) -> str:
    """Return ``text`` as one token of a subject.

    >>> encode("left"), encode("a b*")
    ('left', 'a=20b=2A')
    """
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in text.encode())


def decode(token: str) -> str:
    """Return the text of a token that was not cut.

    >>> decode("a=20b=2A")
    'a b*'
    """
    parts = token.split("=")
    return b"".join([parts[0].encode(), *(bytes([int(p[:2], 16)]) + p[2:].encode() for p in parts[1:])]).decode()


def short(text: str) -> str:
    """Return ``text`` as a token that is not too long for a name.

    >>> len(short("x" * 255)) <= 120
    True
    """
    token = encode(text)
    if len(token) <= _LONGEST:
        return token
    return f"{token[: _LONGEST - 40]}=={xxhash.xxh3_128_hexdigest(text.encode())}"


class Names:
    """The names of one queue.

    >>> Names("frames").topic("camera.left")
    'persipubsub.frames.m.t.camera.left'
    """

    def __init__(self, queue: str) -> None:
        """Use the encoded name of the queue."""
        token = short(queue)
        self.stream = f"persipubsub-{token}"
        self.dead = f"{self.stream}=dead"
        self.state = f"{self.stream}=state"
        self._prefix = f"persipubsub.{token}"
        self.plain = f"{self._prefix}.m.p"
        self.messages = f"{self._prefix}.m.>"
        self.live = f"{self._prefix}.state.live.*"
        self.roster = f"{self._prefix}.state.live.roster"
        self.settings = f"{self._prefix}.state.live.settings"

    @property
    def subjects(self) -> list[str]:
        """Return the subjects of the stream of messages."""
        return [self.messages, f"{self._prefix}.again.*"]

    @property
    def dead_subjects(self) -> list[str]:
        """Return the subjects of the stream of dead letters."""
        return [f"{self._prefix}.dead.*.*"]

    @property
    def state_subjects(self) -> list[str]:
        """Return the subjects of the stream of states."""
        return [f"{self._prefix}.state.>"]

    def topic(self, topic: str | None) -> str:
        """Return the subject of a message."""
        if topic is None:
            return self.plain
        return f"{self._prefix}.m.t." + ".".join(map(encode, topic.split(".")))

    def topic_of(self, subject: str) -> str | None:
        """Return the topic of a message.

        >>> Names("q").topic_of(Names("q").topic("a.b c"))
        'a.b c'
        """
        start = f"{self._prefix}.m.t."
        if not subject.startswith(start):
            return None
        return ".".join(map(decode, subject[len(start) :].split(".")))

    def filters(self, identifier: str, topic_filter: str | None) -> list[str]:
        """Return the subjects that a subscriber gets."""
        wanted = self.messages
        if topic_filter is not None:
            tokens = (token if token in ("*", ">") else encode(token) for token in topic_filter.split("."))
            wanted = f"{self._prefix}.m.t." + ".".join(tokens)
        return [wanted, self.again(identifier)]

    def again(self, identifier: str) -> str:
        """Return the subject of a dead letter that comes again."""
        return f"{self._prefix}.again.{short(identifier)}"

    def dead_letter(self, identifier: str, message_id: int | str) -> str:
        """Return the subject of a dead letter; ``"*"`` for all of a subscriber."""
        return f"{self._prefix}.dead.{short(identifier)}.{message_id}"

    def note(self, identifier: str, message_id: int | str) -> str:
        """Return the subject of a note; ``"*"`` for all of a subscriber."""
        return f"{self._prefix}.state.note.{short(identifier)}.{message_id}"

    @property
    def all_notes(self) -> str:
        """Return what matches every note."""
        return f"{self._prefix}.state.note.>"

    def beat(self, identifier: str) -> str:
        """Return the subject of the sign of life of an ephemeral subscriber's owner."""
        return f"{self._prefix}.state.beat.{short(identifier)}"

    @staticmethod
    def new_consumer(identifier: str) -> str:
        """Return a new name for a consumer: a subscriber that is moved gets another one."""
        return f"{short(identifier)}-{secrets.token_hex(4)}"
