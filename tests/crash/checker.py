"""Judges a crowd of processes by their journals alone; it knows nothing of the library.

Events, each with its ``moment`` (monotonic, ns, taken after what it tells, before the next thing begins):

========================================  ===========================================================================
``trying`` names                          a publisher is about to send these messages
``sent`` messages [name, id]              ``send`` returned
``consuming`` subscriber, order           a consumer begins; ``order``: first deliveries come by ascending ids
``took`` since, messages [name, id, n]    a take that was begun at ``since`` returned these, delivered for the nth time
``damaged`` id                            a payload is not what was sent
``ending`` how, ids                       is about to acknowledge ("ack") or to give back ("nack")
``ended`` how, ids                        that returned
``dying`` at                              is about to kill itself at a named point
``killing`` process                       the supervisor is about to kill it
``dead`` process                          the supervisor has seen its end
``expected`` subscribers                  the subscribers that must get everything
========================================  ===========================================================================
"""

import bisect
import collections
import dataclasses
import itertools
import pathlib
import sys
from typing import Any

from tests.crash import journal

_NEVER = 1 << 63


@dataclasses.dataclass
class Hold:
    """A delivery of one message, as far as its consumer came."""

    name: str
    id: int
    count: int
    process: str
    since: int
    taken: int
    #: From ``taken`` to here it was surely held.
    until: int = 0
    #: "ack" or "nack" as soon as its consumer was about to do so.
    ending: str = ""
    ended: int = _NEVER


@dataclasses.dataclass
class Verdict:
    """What the journals tell."""

    findings: list[str] = dataclasses.field(default_factory=list)
    sent: int = 0
    deliveries: int = 0
    redeliveries: int = 0
    deaths: int = 0
    #: From the death of a holder to the next delivery, in seconds.
    rescues: list[float] = dataclasses.field(default_factory=list)

    def find(self, text: str) -> None:
        """Note what must not be."""
        self.findings.append(text)


class Journals:
    """All journals of a folder, put in order."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Read them."""
        self.tried: set[str] = set()
        self.sent: dict[str, int] = {}
        self.expected: list[str] = []
        #: By subscriber and name of the message, in the order of delivery.
        self.holds: dict[str, dict[str, list[Hold]]] = collections.defaultdict(lambda: collections.defaultdict(list))
        self.ordered: dict[str, bool] = {}
        self.killed: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.dead: set[str] = set()
        self.findings: list[str] = []
        for path in sorted(folder.glob(f"*{journal.SUFFIX}")):
            self._read(path.name.removesuffix(journal.SUFFIX), path)
        self._close()

    def _read(self, process: str, path: pathlib.Path) -> None:
        subscriber = ""
        holding: dict[int, Hold] = {}
        for event in journal.read(path):
            self.last[process] = event["moment"]
            kind = event["event"]
            if kind == "trying":
                self.tried.update(event["names"])
            elif kind == "sent":
                self._note_sent(event["messages"])
            elif kind == "consuming":
                subscriber = event["subscriber"]
                self.ordered[subscriber] = event["order"]
            elif kind == "took":
                for name, message_id, count in event["messages"]:
                    hold = Hold(name, message_id, count, process, event["since"], event["moment"])
                    holding[message_id] = hold
                    self.holds[subscriber][name].append(hold)
            elif kind == "ending":
                for message_id in event["ids"]:
                    holding[message_id].until, holding[message_id].ending = event["moment"], event["how"]
            elif kind == "ended":
                for message_id in event["ids"]:
                    holding[message_id].ended = event["moment"]
            elif kind == "damaged":
                self.findings.append(f"message {event['id']} of {subscriber} is not what was sent")
            elif kind == "killing":
                self.killed[event["process"]] = event["moment"]
            elif kind == "dead":
                self.dead.add(event["process"])
            elif kind == "expected":
                self.expected = event["subscribers"]

    def _note_sent(self, messages: list[list[Any]]) -> None:
        for name, message_id in messages:
            self.sent[name] = message_id

    def death_of(self, process: str) -> int:
        """Return until when a process surely lived."""
        return max(self.last[process], self.killed.get(process, 0))

    def _close(self) -> None:
        for held in self.holds.values():
            for holds in held.values():
                holds.sort(key=lambda hold: hold.taken)
                for hold in holds:
                    if not hold.ending:
                        # Its owner lived, and held it, until it died.
                        hold.until = max(hold.taken, self.death_of(hold.process))


def judge(folder: pathlib.Path) -> Verdict:
    """Judge what the journals of a folder tell."""
    journals = Journals(folder)
    verdict = Verdict(list(journals.findings), sent=len(journals.sent), deaths=len(journals.dead))
    _check_sends(journals, verdict)
    for subscriber in sorted({*journals.expected, *journals.holds}):
        held = journals.holds[subscriber]
        if subscriber in journals.expected:
            for name in sorted(journals.sent.keys() - held.keys()):
                verdict.find(f"{name} ({journals.sent[name]}) was sent and never delivered to {subscriber}")
        for name, holds in held.items():
            _check_name(journals, verdict, subscriber, name, holds)
            _check_holds(journals, verdict, subscriber, holds)
            _check_end(verdict, subscriber, holds[-1])
        if journals.ordered.get(subscriber):
            _check_order(verdict, subscriber, [hold for holds in held.values() for hold in holds])
    return verdict


def _check_sends(journals: Journals, verdict: Verdict) -> None:
    given = collections.Counter(journals.sent.values())
    for message_id, number in given.items():
        if number > 1:
            verdict.find(f"the id {message_id} was given to {number} messages")
    for name in journals.sent.keys() - journals.tried:
        verdict.find(f"{name} was sent by nobody")


def _check_name(journals: Journals, verdict: Verdict, subscriber: str, name: str, holds: list[Hold]) -> None:
    ids = {hold.id for hold in holds}
    if name not in journals.tried:
        verdict.find(f"{subscriber} got {name}, which nobody sent")
    if len(ids) > 1 or (name in journals.sent and ids != {journals.sent[name]}):
        verdict.find(f"{subscriber} got {name} as {sorted(ids)}, but it was sent as {journals.sent.get(name)}")


def _check_holds(journals: Journals, verdict: Verdict, subscriber: str, holds: list[Hold]) -> None:
    verdict.deliveries += len(holds)
    verdict.redeliveries += len(holds) - 1
    latest = holds[0]
    for before, after in itertools.pairwise(holds):
        latest = max(latest, before, key=lambda hold: hold.until)
        if latest.until > after.taken:
            verdict.find(
                f"{after.name} of {subscriber} had two owners at once: {latest.process} until {latest.until}, "
                f"{after.process} from {after.taken}"
            )
        if before.ending == "ack" and before.ended < after.taken:
            verdict.find(f"{after.name} of {subscriber} was delivered again after its acknowledgement")
        died = before.process in journals.dead or before.process in journals.killed
        if not before.ending and (not died or journals.death_of(before.process) > after.taken):
            verdict.find(f"{after.name} of {subscriber} was delivered again though {before.process} lived and held it")
        if died and not before.ending and before.process in journals.killed:
            verdict.rescues.append((after.taken - journals.killed[before.process]) / 1e9)


def _check_end(verdict: Verdict, subscriber: str, last: Hold) -> None:
    """Check that the last delivery of a message, in a queue that was emptied, ended with its acknowledgement."""
    if last.ending == "nack":
        verdict.find(f"{last.name} of {subscriber} was given back and never delivered again")
    elif not last.ending:
        verdict.find(f"{last.name} of {subscriber} was held by {last.process} and never delivered again")


def _check_order(verdict: Verdict, subscriber: str, holds: list[Hold]) -> None:
    """Check that no first delivery began after that of a later message was over."""
    firsts = sorted((hold for hold in holds if hold.count == 1), key=lambda hold: hold.taken)
    ends = [hold.taken for hold in firsts]
    highest: list[int] = []
    for hold in firsts:
        highest.append(max(hold.id, highest[-1] if highest else 0))
    for hold in firsts:
        over = bisect.bisect_left(ends, hold.since)
        if over and highest[over - 1] > hold.id:
            verdict.find(f"{subscriber} got {hold.name} ({hold.id}) for the first time after {highest[over - 1]}")


def main() -> int:
    """Judge the folder that the command line names."""
    verdict = judge(pathlib.Path(sys.argv[1]))
    print("\n".join(verdict.findings) or "all is well")
    print(f"{verdict.sent} sent, {verdict.deliveries} delivered, {verdict.redeliveries} again, {verdict.deaths} deaths")
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
