"""Brokerless, persistent publish/subscribe for the processes of one machine.

>>> import persipubsub
>>> with persipubsub.Environment("memory:") as env:
...     control = env.new_control(subscriber_ids={"worker"})
...     _ = env.new_publisher().send(b"hello")
...     with env.new_subscriber("worker").receive(timeout=1) as msg:
...         print(msg)
b'hello'
"""

from persipubsub.control import Control
from persipubsub.delivery.iteration import Messages
from persipubsub.engine.figures import Compaction, Finding, OwnerStatistics, Statistics, SubscriberStatistics
from persipubsub.environment import Environment
from persipubsub.errors import (
    ClosedError,
    ConfigError,
    FormatVersionError,
    IdentifierError,
    LeaseLostError,
    MessageError,
    MessageTooLargeError,
    MessageTypeError,
    NotAQueueError,
    OpenError,
    PersipubsubError,
    PidCollisionError,
    PositionError,
    QueueBusyError,
    QueueDamagedError,
    QueueError,
    QueueExistsError,
    QueueFullError,
    QueueNotFoundError,
    QueuePermissionError,
    QueueReplacedError,
    SettingsError,
    SettingsMismatchError,
    StorageError,
    StorageFailedError,
    StorageFullError,
    SubscriberError,
    UnknownSubscriberError,
    UnreachableError,
    UnsupportedByEngineError,
)
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy, SubscriberSettings
from persipubsub.manager import QueueManager
from persipubsub.message import Draft, Message
from persipubsub.publisher import Publisher
from persipubsub.retained.browsing import RetainedMessage
from persipubsub.retained.dead_letters import DeadLetter, DeadLetters
from persipubsub.retrying import Backoff
from persipubsub.subscriber import Subscriber
from persipubsub.worker import Worker, run

__all__ = [
    # opening and administrating
    "Environment",
    "Control",
    "QueueManager",
    # sending and receiving
    "Publisher",
    "Draft",
    "Subscriber",
    "Message",
    "Messages",
    # working
    "run",
    "Worker",
    "Backoff",
    # settings
    "HighWaterMark",
    "Strategy",
    "Retention",
    "Durability",
    "Settings",
    "SubscriberSettings",
    # looking
    "RetainedMessage",
    "DeadLetters",
    "DeadLetter",
    "Statistics",
    "SubscriberStatistics",
    "OwnerStatistics",
    "Finding",
    "Compaction",
    # errors
    "PersipubsubError",
    "OpenError",
    "QueueNotFoundError",
    "QueueExistsError",
    "NotAQueueError",
    "FormatVersionError",
    "QueueDamagedError",
    "QueuePermissionError",
    "PidCollisionError",
    "UnreachableError",
    "SettingsMismatchError",
    "ConfigError",
    "QueueError",
    "QueueFullError",
    "StorageFullError",
    "QueueBusyError",
    "QueueReplacedError",
    "StorageError",
    "StorageFailedError",
    "SubscriberError",
    "UnknownSubscriberError",
    "MessageError",
    "MessageTypeError",
    "MessageTooLargeError",
    "SettingsError",
    "IdentifierError",
    "PositionError",
    "LeaseLostError",
    "ClosedError",
    "UnsupportedByEngineError",
]
