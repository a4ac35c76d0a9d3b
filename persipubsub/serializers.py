"""Ready serializers for publishers and deserializers for subscribers; any callable will do as well.

A serializer makes bytes of a value, a deserializer a value of bytes. All here can be pickled, so
that publishers and subscribers which have them can be, too. There is none that unpickles: bytes
from elsewhere must not become code.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")

_json_encode = msgspec.json.Encoder().encode
_json_decode = msgspec.json.Decoder().decode
_msgpack_encode = msgspec.msgpack.Encoder().encode
_msgpack_decode = msgspec.msgpack.Decoder().decode


def json_dumps(value: Any) -> bytes:
    """Write a value as JSON.

    >>> json_dumps({"frame": 1})
    b'{"frame":1}'
    """
    return _json_encode(value)


def json_loads(data: bytes) -> Any:
    """Read JSON.

    >>> json_loads(b'{"frame": 1}')
    {'frame': 1}

    :param data: UTF-8
    :raise ValueError: it is not JSON
    """
    return _json_decode(data)


def json_loads_as(shape: type[T]) -> Callable[[bytes], T]:
    """Return what reads JSON and checks that it has a shape: a type, a dataclass or a msgspec.Struct.

    >>> json_loads_as(dict[str, int])(b'{"frame": 1}')
    {'frame': 1}
    """
    return functools.partial(msgspec.json.decode, type=shape)


def msgpack_dumps(value: Any) -> bytes:
    """Write a value as MessagePack.

    >>> msgpack_loads(msgpack_dumps({"raw": b"frame"}))
    {'raw': b'frame'}
    """
    return _msgpack_encode(value)


def msgpack_loads(data: bytes) -> Any:
    """Read MessagePack.

    :param data: one value
    :raise ValueError: it is not MessagePack
    """
    return _msgpack_decode(data)


def msgpack_loads_as(shape: type[T]) -> Callable[[bytes], T]:
    """Return what reads MessagePack and checks that it has a shape.

    >>> msgpack_loads_as(int)(msgpack_dumps(3))
    3
    """
    return functools.partial(msgspec.msgpack.decode, type=shape)


class ProtobufMessage(Protocol):
    """What generated classes of protobuf have."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf calls it so
        """Return the encoded message."""

    def ParseFromString(self, serialized: bytes) -> int:  # noqa: N802 - protobuf calls it so
        """Read an encoded message into this object."""


P = TypeVar("P", bound=ProtobufMessage)


def protobuf_dumps(value: ProtobufMessage) -> bytes:
    """Write a protobuf message.

    :param value: of a generated class
    """
    return value.SerializeToString()


def protobuf_loads(message_class: type[P]) -> Callable[[bytes], P]:
    """Return what reads protobuf messages of a generated class.

    :param message_class: the class
    """
    return functools.partial(_parse_protobuf, message_class)


def _parse_protobuf(message_class: type[P], data: bytes) -> P:
    value = message_class()
    value.ParseFromString(data)
    return value
