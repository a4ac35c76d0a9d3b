"""Changing the settings of a queue, for every process."""

from collections.abc import Callable

from persipubsub.engine.local import doubt, files, locks, prune
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work, settings_records
from persipubsub.errors import QueueBusyError, SettingsMismatchError
from persipubsub.limits import Durability, Retention, Settings


def configure(store: Store, settings: Settings) -> None:
    """Store settings; they hold from the next operation of every process.

    :raise SettingsMismatchError: ``map_size`` differs, which is decided at creation
    :raise QueueBusyError: the durability differs, and somebody else has the queue open
    """
    with store.read() as txn:
        stored = Work(store, txn).settings
    if settings.map_size != stored.map_size:
        raise SettingsMismatchError(
            f"The map of queue {store.path} started with {stored.map_size or 'the default'} and grows by itself; "
            "map_size is decided when the queue is created."
        )

    no_longer_log = stored.retention is Retention.LOG and settings.retention is not Retention.LOG

    def write(work: Work) -> None:
        for key, value in settings_records(settings).items():
            work.txn.put(key, value, db=work.queue)
        work.state.settings_version += 1
        if no_longer_log:
            work.state.swept = 1  # what a log kept has yet to be looked at for deletion
        work.ring_for_room()
        work.ring_for_messages()

    if settings.durability is not stored.durability:
        _change_durability(store, settings.durability, write)
    else:
        store.write(write)
    if no_longer_log:
        prune.sweep_all(store)
    if settings.group_access != stored.group_access:
        files.set_modes(store.path, settings.group_access)


def _change_durability(store: Store, durability: Durability, write: Callable[[Work], None]) -> None:
    """Store another durability and reopen with its flags, while nobody else has the queue open.

    :raise QueueBusyError: somebody has, or a view is being read
    """
    if not store.locks.try_exclusive(locks.USERS):
        raise QueueBusyError(
            f"Queue {store.path}: the durability can only change while nobody else has the queue open, but "
            f"{store.locks.name_holder(locks.USERS)} has; nothing was changed."
        )

    def change(work: Work, alone: bool) -> None:
        if not alone:
            raise QueueBusyError(
                f"Queue {store.path}: the durability cannot change inside a receive_view block; nothing was changed."
            )
        write(work)

    try:
        if durability is Durability.PROCESS:
            doubt.note_boot(store.path)
        store.writer.write_alone(change, lambda: store.reopen(durability))
        if durability is not Durability.PROCESS:
            doubt.forget(store.path)
    finally:
        store.locks.try_shared(locks.USERS)
