"""Random topics and filters against a matcher that was written apart from the library: by regular expressions."""

import pathlib
import random
import re

from persipubsub import Draft, Durability, Environment, IdentifierError

#: Few, so that they meet; some look like wildcards without being any.
TOKENS = ("a", "b", "ab", "A", "a*", "*a", ">>", "é", "e\u0301", "-", "a" * 40)
#: What no topic or filter may have, or not there.
WRONG = ("", " ", "a b", "\t")

SUBSCRIBERS, MESSAGES = 8, 60


def fits(topic_filter: str | None, topic: str | None) -> bool:
    """Tell whether a message of this topic is for a subscriber with this filter."""
    if topic_filter is None:
        return True
    if topic is None:
        return False
    pattern = ""
    for token in re.findall(r"[^.]+", topic_filter):
        piece = {"*": r"[^.]+", ">": r".+"}.get(token, re.escape(token))
        pattern += (r"\." if pattern else "") + piece
    return re.fullmatch(pattern, topic, re.DOTALL) is not None


def is_name(text: str, *, wild: bool) -> bool:
    """Tell whether this may be a topic; ``wild``: a filter."""
    if re.search(r"\s|\.\.|^\.|\.$|^$", text):
        return False
    if wild:
        return re.search(r"(^|\.)>\.", text) is None
    return re.search(r"(^|\.)[*>](\.|$)", text) is None


def topic_of(source: random.Random) -> str | None:
    """Return a topic, or none, or rarely what may not be one."""
    if source.random() < 0.05:
        return None
    tokens = [source.choice(TOKENS) for _ in range(source.choice((1, 1, 2, 2, 3, 4, 9)))]
    if source.random() < 0.05:
        tokens.insert(source.randrange(len(tokens) + 1), source.choice((*WRONG, "*", ">")))
    return ".".join(tokens)


def filter_of(source: random.Random) -> str | None:
    """Return a filter, or none, or rarely what may not be one."""
    if source.random() < 0.05:
        return None
    tokens = [
        "*" if source.random() < 0.3 else source.choice(TOKENS[:6]) for _ in range(source.choice((1, 1, 2, 2, 3)))
    ]
    if source.random() < 0.4:
        tokens.append(">")
    if source.random() < 0.05:
        tokens.insert(source.randrange(len(tokens) + 1), source.choice((*WRONG, ">")))
    return ".".join(tokens)


def judge(path: pathlib.Path, source: random.Random) -> tuple[int, list[str]]:
    """Send messages of random topics to subscribers with random filters, which change half-way.

    :return: how many times it was decided whether a message is for a subscriber, and what went wrong
    """
    findings: list[str] = []
    filters: dict[str, str | None] = {}
    with Environment(path) as env:
        control = env.new_control({}, durability=Durability.PROCESS)

        def choose(identifier: str) -> None:
            chosen = filter_of(source)
            try:
                if identifier in filters:
                    control.configure_subscriber(identifier, topic_filter=chosen)
                else:
                    control.add_subscriber(identifier, topic_filter=chosen)
            except IdentifierError:
                if chosen is None or is_name(chosen, wild=True):
                    findings.append(f"the filter {chosen!r} was refused")
                return
            if chosen is not None and not is_name(chosen, wild=True):
                findings.append(f"the filter {chosen!r} was accepted")
            filters[identifier] = chosen

        decided = 0
        for _ in range(2):
            for number in range(SUBSCRIBERS):
                choose(str(number))
            sent: list[tuple[int, str | None]] = []
            for _ in range(MESSAGES):
                topic = topic_of(source)
                try:
                    sent += [
                        (message_id, topic) for message_id in env.new_publisher().send_many([Draft(b"", topic=topic)])
                    ]
                except IdentifierError:
                    if topic is None or is_name(topic, wild=False):
                        findings.append(f"the topic {topic!r} was refused")
                    continue
                if topic is not None and not is_name(topic, wild=False):
                    findings.append(f"the topic {topic!r} was accepted")
            for identifier, chosen in filters.items():
                wanted = [(message_id, topic) for message_id, topic in sent if fits(chosen, topic)]
                with env.new_subscriber(identifier).messages(batch=source.randrange(1, 30), timeout=0) as loop:
                    got = [(message.id, message.topic) for message in loop]
                decided += len(sent)
                if got != wanted:
                    odd = sorted(set(got) ^ set(wanted))[:3]
                    findings.append(f"the filter {chosen!r}: {odd} came, or did not, or the order differs")
            if control.statistics().messages:
                findings.append(f"{control.statistics().messages} messages are left that nobody waits for")
        findings += map(str, control.check())
    return decided, findings
