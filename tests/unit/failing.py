"""Lets calls to the operating system and to LMDB fail."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lmdb
import pytest


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int,
    only: Callable[..., object] = lambda *_: True,
    of: Any = os,
) -> Iterator[list[Any]]:
    """Let a function fail as the system fails, as long as the block runs; give what it was called with.

    :param only: tells by the arguments of a call whether it fails
    :param of: the module or class whose function it is
    """
    real = getattr(of, name)
    asked: list[Any] = []

    def fail(*arguments: Any, **named: Any) -> Any:
        if not only(*arguments):
            return real(*arguments, **named)
        asked.append(arguments)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(of, name, fail)
        yield asked


class Failing:
    """LMDB, or an environment of it, of which one function fails for so many times."""

    def __init__(self, real: Any, name: str, error: lmdb.Error, times: int = 1) -> None:
        self._real = real
        self._name = name
        self._error = error
        self.left = times

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._fail(real) if name == self._name else real

    def _fail(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.left:
                self.left -= 1
                raise self._error
            return real(*arguments, **named)

        return call


def with_code(error: lmdb.Error, code: int) -> lmdb.Error:
    """Return the error with the number that the system gave."""
    error.code = code  # type: ignore[misc]
    return error
