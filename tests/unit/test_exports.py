"""The public names, frozen: adding one is a decision, losing one an accident."""

import inspect

import pytest

import persipubsub
import persipubsub.errors
import persipubsub.queue
import persipubsub.serializers

_EXPORTED = (
    "Environment Control QueueManager Publisher Draft Subscriber Message Messages run Worker Backoff "
    "HighWaterMark Strategy Retention Durability Settings SubscriberSettings RetainedMessage DeadLetters DeadLetter "
    "Statistics SubscriberStatistics OwnerStatistics Finding Compaction PersipubsubError OpenError QueueNotFoundError "
    "QueueExistsError NotAQueueError FormatVersionError QueueDamagedError QueuePermissionError PidCollisionError "
    "UnreachableError SettingsMismatchError "
    "ConfigError QueueError QueueFullError StorageFullError QueueBusyError QueueReplacedError "
    "StorageError StorageFailedError SubscriberError UnknownSubscriberError MessageError MessageTypeError "
    "MessageTooLargeError SettingsError IdentifierError PositionError LeaseLostError ClosedError "
    "UnsupportedByEngineError"
)
EXPORTS = _EXPORTED.split()

METHODS = {
    "Environment": "browse close closed from_config location new_control new_publisher new_subscriber "
    "open_control path",
    "Control": "add_subscriber backup check clear_all_subscribers close closed compact configure configure_subscriber "
    "dead_letters export init is_initialized pause_subscriber prune_dangling_messages purge remove_subscriber "
    "resume_subscriber set_high_water_mark set_hwm set_strategy settings statistics subscriber_ids subscribers",
    "Publisher": "autosync close closed send send_many",
    "Subscriber": "ack close closed fileno get get_many identifier messages peek pop receive receive_many "
    "receive_message receive_to_top receive_view seek",
    "Message": "ack data delivery_count expires extend first_received headers id last_error missed nack reject send "
    "sent size subscriber topic",
    "Messages": "close",
    "Worker": "run stop",
    "Backoff": "delay factor first jitter longest",
    "QueueManager": "create delete exists names open root",
    "DeadLetters": "discard requeue subscriber",
    "DeadLetter": "data delivery_count died headers id reason sent topic",
    "RetainedMessage": "data headers id sent topic",
}


def test_exports_are_frozen() -> None:
    assert persipubsub.__all__ == EXPORTS
    for name in EXPORTS:
        assert getattr(persipubsub, name).__doc__, name


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_frozen(name: str) -> None:
    members = [member for member in dir(getattr(persipubsub, name)) if not member.startswith("_")]
    assert members == METHODS[name].split()


def test_every_error_is_exported() -> None:
    errors = {name for name, value in vars(persipubsub.errors).items() if inspect.isclass(value)}
    assert errors <= set(EXPORTS)


def test_the_limits_where_version_1_had_them() -> None:
    for name in persipubsub.queue.__all__:
        assert hasattr(persipubsub.queue, name)
    assert persipubsub.queue.HighWaterMark is persipubsub.HighWaterMark
    assert persipubsub.queue._HighWaterMark is persipubsub.HighWaterMark
    assert persipubsub.queue._Strategy is persipubsub.Strategy
    assert persipubsub.Strategy["prune_first"] is persipubsub.Strategy.PRUNE_FIRST


def test_serializers_are_frozen() -> None:
    functions = [name for name, value in vars(persipubsub.serializers).items() if inspect.isfunction(value)]
    assert [name for name in functions if not name.startswith("_")] == [
        "json_dumps",
        "json_loads",
        "json_loads_as",
        "msgpack_dumps",
        "msgpack_loads",
        "msgpack_loads_as",
        "protobuf_dumps",
        "protobuf_loads",
    ]


class ProtobufLike:
    """What generated classes look like."""

    def __init__(self, value: bytes = b"") -> None:
        self.value = value

    def SerializeToString(self) -> bytes:  # noqa: N802
        return self.value

    def ParseFromString(self, serialized: bytes) -> int:  # noqa: N802
        self.value = serialized
        return len(serialized)


def test_protobuf() -> None:
    load = persipubsub.serializers.protobuf_loads(ProtobufLike)
    assert load(persipubsub.serializers.protobuf_dumps(ProtobufLike(b"x"))).value == b"x"
