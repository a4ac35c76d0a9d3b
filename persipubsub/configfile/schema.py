"""The shape of a deployment file, and the JSON Schema of that shape."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from persipubsub import limits
from persipubsub.limits import Durability, Retention, Strategy

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class HighWaterMarkFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a queue; null means no limit."""

    message_timeout: Annotated[
        Seconds | None, Meta(description="Seconds after which a message is neither delivered nor kept.")
    ] = limits.DEFAULT_MESSAGE_TIMEOUT
    max_messages: Annotated[Count | None, Meta(description="Number of messages stored.")] = limits.DEFAULT_MAX_MESSAGES
    max_bytes: Annotated[Count | None, Meta(description="Bytes of payload stored.")] = limits.DEFAULT_MAX_BYTES


class SubscriberFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a subscriber."""

    lease: Annotated[
        Seconds | None,
        Meta(description="Seconds a taken message may be held; null: as long as the process lives that took it."),
    ] = None
    max_deliveries: Annotated[
        Count | None, Meta(description="Deliveries after which an unacknowledged message is dead; null: never.")
    ] = limits.DEFAULT_MAX_DELIVERIES
    topic_filter: Annotated[
        str | None, Meta(description="Deliver only messages whose topic matches; * is one token, > all that follow.")
    ] = None
    start: Annotated[
        Literal["first", "latest"] | Count,
        Meta(description="Where it starts when it is added: the oldest message, only what comes next, or an id."),
    ] = "latest"


class TlsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files for TLS to the servers of an engine, relative to the deployment file."""

    ca: Annotated[str | None, Meta(description="Certificates of the authorities that sign the servers'.")] = None
    cert: Annotated[str | None, Meta(description="Certificate of this client.")] = None
    key: Annotated[str | None, Meta(description="Key of this client.")] = None


class QueueFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue: its subscribers and settings."""

    subscribers: Annotated[
        list[str] | dict[str, SubscriberFile], Meta(description="Names, or names with their settings.")
    ] = msgspec.field(default_factory=list)
    high_water_mark: HighWaterMarkFile = HighWaterMarkFile()
    strategy: Annotated[Strategy, Meta(description="What a send does that would exceed the high-water mark.")] = (
        Strategy.PRUNE_FIRST
    )
    retention: Annotated[Retention, Meta(description="Whether messages stay that every subscriber has consumed.")] = (
        Retention.CONSUMED
    )
    durability: Annotated[
        Durability,
        Meta(description="What a returned call survives: power loss (full), but for the last commit, or kill -9."),
    ] = Durability.FULL
    max_message_bytes: Annotated[Count, Meta(description="Largest payload of one message.")] = (
        limits.DEFAULT_MAX_MESSAGE_BYTES
    )
    deduplication_window: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(description="Seconds within which a repeated deduplication id is recognised."),
    ] = limits.DEFAULT_DEDUPLICATION_WINDOW
    lock_timeout: Annotated[
        Seconds, Meta(description="Seconds a call waits for another process's write transaction.")
    ] = limits.DEFAULT_LOCK_TIMEOUT
    group_access: Annotated[
        bool, Meta(description="Let the directory's group read and write the queue (0770/0660, not 0700/0600).")
    ] = False
    path: Annotated[
        str | None, Meta(description="Directory of the queue, relative to the root and inside it; null: its name.")
    ] = None
    engine: Annotated[
        Annotated[str, Meta(pattern="^(nats|tls)://")] | None,
        Meta(description="nats://host:4222, if the queue is not in a directory; its name, or the one given, is added."),
    ] = None
    replicas: Annotated[
        Annotated[int, Meta(ge=1, le=5)] | None, Meta(description="Servers of an engine that keep the queue.")
    ] = None
    credentials: Annotated[
        str | None, Meta(description="Credentials file for the engine, relative to the deployment file.")
    ] = None
    tls: Annotated[TlsFile | None, Meta(description="TLS to the servers of the engine.")] = None
    monitor: Annotated[
        list[str], Meta(description="Monitoring endpoints of the engine's servers, which prove the durability.")
    ] = msgspec.field(default_factory=list)


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deployment of persipubsub queues."""

    queues: Annotated[dict[str, QueueFile], Meta(description="The queues by their names.")]
    root: Annotated[str, Meta(description="Directory of the queues; relative to this file.")] = "./queues"
    schema: Annotated[str | None, Meta(description="For editors: where the JSON Schema of this file is.")] = (
        msgspec.field(default=None, name="$schema")
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a deployment file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(ConfigFile)}
