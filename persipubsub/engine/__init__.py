"""Engines: what carries out the operations of a queue.

``base`` is the interface, with ``messages`` and ``figures`` as what goes in and out; ``local`` is the product (LMDB),
``memory`` the same semantics inside one process, ``jetstream`` a queue on NATS servers.
"""
