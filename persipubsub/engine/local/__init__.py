"""The LMDB engine, from the bytes up.

``format``      names, keys and records, pure
``locks``       byte-range locks between processes; ``board`` the page they share; ``files`` paths, modes, checks
``store``       the one module that begins LMDB transactions; ``space`` grows the map and reserves disk
``work``        one write transaction as the modules below see it
``publish``     where a message is written; ``prune`` where messages are deleted
``holds``       what a subscriber has taken or set aside; ``take`` and ``settle`` over it
``roster``      subscribers; ``deadletters``; ``look`` reads without a trace; ``check`` verifies
``owners``      who is alive; ``bells`` waking
``engine``      all of it behind the interface; ``opening`` creates, opens and shares queues
"""

from persipubsub.engine.local.opening import create_local, delete_local, exists_local, open_local

__all__ = ["create_local", "delete_local", "exists_local", "open_local"]
