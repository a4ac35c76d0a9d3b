"""Compare what every subscriber received with the originals; knows nothing of queues."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from persipubsub.demo.files import Original
from persipubsub.demo.journal import Line


class SubscriberVerdict(msgspec.Struct, frozen=True):
    """What one subscriber got.

    :param received: files that arrived, each counted once
    :param deliveries: messages handled, repeats counted
    :param redelivered: deliveries of a message that had been delivered before
    :param missing: paths that never arrived
    :param altered: paths that arrived with other bytes than the original, or under a wrong name
    """

    received: int
    deliveries: int
    redelivered: int
    missing: tuple[str, ...]
    altered: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True):
    """The whole outcome.

    :param files: how many originals there are
    :param sent: messages that publishers committed
    :param payload_bytes: bytes of all originals
    :param seconds: from the first send to the last receipt
    :param subscribers: by their names
    :param problems: whatever else went wrong
    """

    files: int
    sent: int
    payload_bytes: int
    seconds: float
    subscribers: dict[str, SubscriberVerdict]
    problems: tuple[str, ...] = ()

    @property
    def received(self) -> int:
        """Return the files received, over all subscribers."""
        return sum(subscriber.received for subscriber in self.subscribers.values())

    @property
    def redelivered(self) -> int:
        """Return the redeliveries, over all subscribers."""
        return sum(subscriber.redelivered for subscriber in self.subscribers.values())

    @property
    def lost(self) -> int:
        """Return the files that did not arrive intact, over all subscribers."""
        return sum(len(subscriber.missing) + len(subscriber.altered) for subscriber in self.subscribers.values())

    @property
    def rate(self) -> float:
        """Return the messages received per second, over all subscribers."""
        return self.received / self.seconds if self.seconds else 0.0

    @property
    def passed(self) -> bool:
        """Tell whether every file was sent once and arrived intact at every subscriber."""
        return not self.lost and self.sent == self.files and not self.problems


def judge(
    originals: Iterable[Original],
    sent: Iterable[Line],
    received: Mapping[str, Iterable[Line]],
    problems: Iterable[str] = (),
) -> Verdict:
    """Compare ``received`` (by subscriber) and ``sent`` with ``originals``."""
    sent = list(sent)
    receipts = {name: list(lines) for name, lines in received.items()}
    arrivals = [line.at for lines in receipts.values() for line in lines]
    seconds = max(arrivals) - min(line.at for line in sent) if arrivals and sent else 0.0
    expected = {original.path: original for original in originals}
    sent_paths = Counter(line.path for line in sent)
    found = list(problems)
    found += [f"{path} was sent {count} times" for path, count in sent_paths.items() if count > 1]
    found += [f"{path} was sent, but is no original" for path in sent_paths if path not in expected]
    return Verdict(
        files=len(expected),
        sent=sent_paths.total(),
        payload_bytes=sum(original.size for original in expected.values()),
        seconds=seconds,
        subscribers={name: _judge_subscriber(expected, lines) for name, lines in receipts.items()},
        problems=tuple(found),
    )


def _judge_subscriber(expected: Mapping[str, Original], lines: Iterable[Line]) -> SubscriberVerdict:
    arrived: set[str] = set()
    altered: set[str] = set()
    deliveries = redelivered = 0
    for line in lines:
        deliveries += 1
        redelivered += line.redelivered
        original = expected.get(line.path)
        if original is None or not line.sha256 == line.declared == original.sha256:
            altered.add(line.path)
        else:
            arrived.add(line.path)
    return SubscriberVerdict(
        received=len(arrived),
        deliveries=deliveries,
        redelivered=redelivered,
        missing=tuple(sorted(expected.keys() - arrived - altered)),
        altered=tuple(sorted(altered)),
    )
