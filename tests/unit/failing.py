"""Lets calls to the operating system fail."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, number: int, only: Callable[..., object] = lambda *_: True
) -> Iterator[list[Any]]:
    """Let a function of ``os`` fail as long as the block runs; give what it was called with.

    :param only: tells by the arguments of a call whether it fails
    """
    real = getattr(os, name)
    asked: list[Any] = []

    def fail(*arguments: Any, **named: Any) -> Any:
        if not only(*arguments):
            return real(*arguments, **named)
        asked.append(arguments)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        yield asked
