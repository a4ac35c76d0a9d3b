"""The LMDB engine, from the bytes up.

``format``      names, keys and records, pure
``locks``       byte-range locks between processes; ``board`` the page they share; ``files`` paths, modes, checks
``store``       the open environment, and the one module that begins LMDB transactions; over it
                ``reading`` and ``writing`` (shared commits); ``gate`` keeps transactions apart from
                growing and forking, ``space`` reserves disk, ``syncing`` syncs in the background
``work``        one write transaction as the modules below see it
``publish``     where a message is written; ``prune`` where messages are deleted
``holds``       what a subscriber has taken or set aside; ``take`` and ``settle`` over it
``roster``      subscribers, ``removal`` those that go; ``deadletters``; ``look`` reads without a trace;
                ``check`` verifies
``owners``      who is alive; ``bells`` and ``waiting`` waking; ``batches`` what was handed over
``taker``       one owner's takes, over all of the above
``creating``    puts a whole queue where there is none; ``copying`` backs up, restores and compacts
``dumping``     a queue as records, ``loading`` a queue of records; ``salvage`` records of a damaged one, by ``pages``
``engine``      all of it behind the interface; ``opening`` creates, opens and shares queues
"""

from persipubsub.engine.local.opening import (
    create_local,
    delete_local,
    exists_local,
    load_local,
    open_local,
    restore_local,
    salvage_local,
    verify_local,
)

__all__ = [
    "create_local",
    "delete_local",
    "exists_local",
    "load_local",
    "open_local",
    "restore_local",
    "salvage_local",
    "verify_local",
]
