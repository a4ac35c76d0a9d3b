"""Engines: what carries out the operations of a queue.

``base`` is the interface, ``local`` the product (LMDB), ``memory`` the same semantics inside one
process.
"""
