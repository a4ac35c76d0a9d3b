"""Looking at a queue without changing it: figures, what is retained, and whether all is well."""

import asyncio
import contextlib
import datetime
import json
from functools import partial
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js import errors as js_errors

from persipubsub.engine.figures import Finding, Statistics, SubscriberStatistics
from persipubsub.engine.jetstream import deadletters, roster, settle, stored, take, wire
from persipubsub.engine.jetstream.ahead import delivered, next_of
from persipubsub.engine.jetstream.holds import Hold, deliver
from persipubsub.engine.jetstream.notes import NO_NOTE
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.stored import Listed
from persipubsub.engine.jetstream.translate import CONSUMER_NOT_FOUND, code_of, translate
from persipubsub.engine.messages import Delivery, Retained

#: Messages of one request for what is retained.
_PAGE: Final = 256


async def statistics(session: Session) -> Statistics:
    """Return figures; what JetStream does not count is ``None``."""
    info = await _stream(session)
    state, now_ns = info.state, session.clock.wall_ns()
    listed = (await session.roster(fresh=True)).subscribers
    figures = await asyncio.gather(*[_subscriber(session, name, listed[name]) for name in sorted(listed)])
    oldest = await next_of(session, state.first_seq, ">") if state.messages else None
    return Statistics(
        identity=session.identity,
        created_ns=0 if info.created is None else int(info.created.timestamp() * 1e9),
        messages=state.messages,
        payload_bytes=state.bytes,
        file_bytes=state.bytes,
        first_id=state.first_seq if state.messages else None,
        last_id=state.last_seq if state.messages else None,
        oldest_age=None if oldest is None else max(0, now_ns - oldest.sent_ns) / 1e9,
        published=state.last_seq,
        deduplicated=None,
        unrouted=None,
        pruned_overflow=None,
        pruned_timeout=None,
        subscribers=tuple(figures),
    )


async def _subscriber(session: Session, identifier: str, listed: Listed) -> SubscriberStatistics:
    info = await session.consumer_info(listed)
    pending = info.num_ack_pending or 0
    delayed, returned = 0, len(session.pulls.ready.get(listed.consumer, ()))
    if pending:
        now_ns = session.clock.wall_ns()
        notes = [note for note in await session.notes.read_all(identifier) if note.exists and not note.held]
        delayed = sum(note.due_ns > now_ns for note in notes)
        returned += len(notes) - delayed
    ahead = sum(each > delivered(info) for each in listed.ahead)
    return SubscriberStatistics(
        identifier=identifier,
        position=delivered(info) + 1,
        waiting=max(0, (info.num_pending or 0) - ahead) + returned,
        leased=max(0, pending - delayed - returned),
        delayed=delayed,
        dead=len(await deadletters.list_ids(session, identifier)),
        deliveries=info.delivered.consumer_seq if info.delivered else 0,
        settled=info.ack_floor.consumer_seq if info.ack_floor else 0,
        redelivered=info.num_redelivered or 0,
        lost=None,
        expired=None,
        paused=listed.paused,
        last_taken_ns=_moment(info.delivered),
        last_settled_ns=_moment(info.ack_floor),
        owners=None,
    )


async def peek(session: Session, identifier: str, max_messages: int) -> list[Delivery]:
    """Return what the next takes would give.

    If something may have come back, they are taken and given back, uncounted: only so is it known what is due.
    """
    listed = await session.listed(identifier)
    if listed.paused:
        return []
    info = await session.consumer_info(listed)
    if not info.num_ack_pending:
        return await _next(session, identifier, listed, delivered(info) + 1, max_messages)
    taken = await take.take(session, identifier, max_messages, take.Terms())
    seen = take.handed_out(taken, 0)
    for hold in sorted(taken, key=lambda hold: hold.id):
        await settle.give_back_one(session, hold, undelivered=True)
    for delivery in seen:
        delivery.token = 0
        delivery.delivery_count -= 1
    return seen


async def _next(session: Session, identifier: str, listed: Listed, start: int, max_messages: int) -> list[Delivery]:
    """Return what the consumer has not come to yet, without a trace."""
    found: list[Delivery] = []
    filters = session.names.filters(identifier, listed.settings.topic_filter)
    now_ns = session.clock.wall_ns()
    while len(found) < max_messages:
        candidates = [each for each in [await next_of(session, start, one) for one in filters] if each is not None]
        if not candidates:
            break
        arrival = min(candidates, key=lambda each: each.id)
        start = arrival.id + 1
        due = not arrival.delay_ns or arrival.sent_ns + arrival.delay_ns <= now_ns
        expired = take.is_expired(arrival.sent_ns, arrival.expires_in_ns, now_ns)
        if due and not expired and arrival.id not in listed.ahead:
            hold = Hold(0, identifier, arrival, NO_NOTE, 0, 0, 0)
            found.append(deliver(hold, first_received_ns=0))
    return found


async def browse(session: Session, start: int, max_messages: int) -> list[Retained]:
    """Return retained messages from an id on."""
    found: list[Retained] = []
    while len(found) < max_messages:
        wanted = min(_PAGE, max_messages - len(found))
        page = await session.link.insist(partial(_page, session, start, wanted))
        found += page
        if not page:
            break
        start = page[-1].id + 1
    return found


async def find_position(session: Session, identifier: str, back: int | None, sent_ns: int | None) -> int:
    """Return the retained id that lies so far back, or the first sent at or after a time."""
    if sent_ns is not None:
        return await _sent_at(session, sent_ns)
    first, _ = await roster.bounds(session)
    position = delivered(await session.consumer_info(await session.listed(identifier))) + 1
    if not back or position <= first:
        return max(position, first)
    answer = await session.link.request(
        f"$JS.API.STREAM.INFO.{session.names.stream}", json.dumps({"deleted_details": True}).encode()
    )
    deleted = set(json.loads(answer.data)["state"].get("deleted") or ())
    for each in range(position - 1, first - 1, -1):
        if each not in deleted:
            position = each
            back -= 1
            if not back:
                break
    return position


async def check(session: Session) -> list[Finding]:
    """Verify that streams, consumers, roster and dead letters belong together; an empty list means that all is well."""
    found: list[Finding] = []
    info = await _stream(session)
    there = stored.read_metadata(info.config.metadata, session.where)
    wanted = stored.stream_config(session.names, there, info.config.num_replicas or 1)
    for name in ("subjects", "retention", "discard", "max_msgs", "max_bytes", "allow_atomic", "allow_msg_ttl"):
        if getattr(info.config, name) != getattr(wanted, name):
            found.append(Finding("stream", f"{name} is {getattr(info.config, name)!r}, not {getattr(wanted, name)!r}"))
    for identifier, listed in (await session.roster(fresh=True)).subscribers.items():
        where = f"subscriber {identifier!r}"
        try:
            consumer = await session.consumer_info(listed)
        except js_errors.APIError as error:
            if code_of(error) != CONSUMER_NOT_FOUND:
                raise
            found.append(Finding(where, f"its consumer {listed.consumer} is missing; remove it and add it again"))
            continue
        filters = session.names.filters(identifier, listed.settings.topic_filter)
        if sorted(consumer.config.filter_subjects or [consumer.config.filter_subject or ""]) != sorted(filters):
            found.append(Finding(where, "its consumer has another filter"))
        if bool(consumer.paused) != listed.paused:
            found.append(Finding(where, "its consumer is paused, or is not, against what is listed"))
        for each in await deadletters.list_ids(session, identifier):
            if not await deadletters.page(session, identifier, each - 1, 1):
                found.append(Finding(where, f"the dead letter {each} cannot be read"))
    return found


async def _stream(session: Session) -> api.StreamInfo:
    try:
        return await session.link.manage(lambda js: js.stream_info(session.names.stream))
    except js_errors.APIError as error:
        raise translate(error, session.where) from error


async def _page(session: Session, start: int, max_messages: int, seconds: float) -> list[Retained]:
    """Ask for a page in one request, which is answered by a message each."""
    client = session.link.client
    inbox, answers = client.new_inbox(), asyncio.Queue[Msg]()
    subscription = await client.subscribe(inbox, cb=answers.put, pending_msgs_limit=-1, pending_bytes_limit=-1)
    request = {"seq": max(1, start), "batch": max_messages, "next_by_subj": session.names.messages}
    found: list[Retained] = []
    try:
        await client.publish(f"$JS.API.DIRECT.GET.{session.names.stream}", json.dumps(request).encode(), reply=inbox)
        while True:
            try:
                async with asyncio.timeout(seconds):
                    message = await answers.get()
            except TimeoutError:
                raise nats.errors.TimeoutError from None
            headers: dict[str, Any] = message.headers or {}
            status = headers.get("Status")
            if status in ("204", "404"):
                return found
            if status is not None:
                raise nats.errors.TimeoutError  # nobody answers for it at this moment
            found.append(wire.read_retained(message.data, headers, session.names))
            if len(found) == max_messages:
                return found
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _sent_at(session: Session, sent_ns: int) -> int:
    _, following = await roster.bounds(session)
    moment = datetime.datetime.fromtimestamp(sent_ns // 10**9, datetime.UTC)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{sent_ns % 10**9:09d}Z"
    request = json.dumps({"start_time": text, "batch": 1, "next_by_subj": session.names.messages}).encode()
    answer = await session.link.request(f"$JS.API.DIRECT.GET.{session.names.stream}", request)
    if (answer.headers or {}).get("Status") is not None:
        return following
    return wire.read_retained(answer.data, answer.headers or {}, session.names).id


def _moment(info: api.SequenceInfo | None) -> int | None:
    return None if info is None or info.last_active is None else int(info.last_active.timestamp() * 1e9)
