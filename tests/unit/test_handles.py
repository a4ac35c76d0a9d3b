"""Handles of sub-databases: not before the commit of the transaction that opened them."""

import pathlib

import lmdb

from persipubsub.engine.local.work import Handles


def test_what_a_transaction_opens_is_for_others_only_after_its_commit(tmp_path: pathlib.Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=4) as env:
        handles = Handles(env)
        assert not handles.have([b"data"])
        with env.begin(write=True, buffers=True) as txn:
            handles.opened_in(txn)
            handle = handles.open(b"data", txn, create=True)
            assert handles.open(b"data", txn) is handle
            # A reader that began now would find the handle invalid.
            assert not handles.have([b"data"])
        with env.begin(write=True, buffers=True) as txn:
            handles.opened_in(txn)
            assert handles.have([b"data"])
            assert handles[b"data"] is handle


def test_what_an_aborted_transaction_opened_is_forgotten(tmp_path: pathlib.Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=4) as env:
        handles = Handles(env)
        txn = env.begin(write=True, buffers=True)
        opened = handles.opened_in(txn)
        handles.open(b"data", txn, create=True)
        txn.abort()
        assert opened == [b"data"]
        handles.forget(opened)
        assert not handles.have([b"data"])
