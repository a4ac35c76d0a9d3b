"""Every public callable tells what it does, what its arguments mean, and what it raises."""

import ast
import builtins
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import persipubsub
import persipubsub.aio
import persipubsub.care
import persipubsub.config
import persipubsub.metrics
import persipubsub.relay
import persipubsub.serializers
import persipubsub.testing
import persipubsub.tracing

MODULES = (
    *(persipubsub, persipubsub.aio, persipubsub.care, persipubsub.config, persipubsub.metrics, persipubsub.relay),
    *(persipubsub.serializers, persipubsub.testing, persipubsub.tracing),
)
#: Those whose users must know whether a call waits, whether it is atomic, and which threads may call.
OF_THE_QUEUE = [
    *(
        "Environment",
        "Control",
        "QueueManager",
        "Publisher",
        "Subscriber",
        "Message",
        "Messages",
        "Worker",
        "DeadLetters",
    ),
]
#: Arguments that are lengths of time.
TIMES = {
    "backoff",
    "deduplication_window",
    "delay",
    "expires_in",
    "grace",
    "lease",
    "lock_timeout",
    "seconds",
    "timeout",
}


def public(module: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")
    ]
    for name in names:
        yield f"{module.__name__}.{name}", getattr(module, name)


THINGS = dict(each for module in MODULES for each in public(module))


def callables() -> Iterator[tuple[str, Callable[..., Any], type | None]]:
    """Return functions, and the methods that classes of ours define, with their classes."""
    for name, thing in THINGS.items():
        if inspect.isfunction(thing):
            yield name, thing, None
        elif inspect.isclass(thing) and not issubclass(thing, BaseException):
            for member, value in inspect.getmembers(thing):
                function = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else None
                ours = inspect.isfunction(function) and function.__module__.startswith("persipubsub")
                if ours and (member == "__init__" or not member.startswith("_")):
                    yield f"{name}.{member}", function, thing  # type: ignore[misc]


CALLABLES = {name: (function, owner) for name, function, owner in callables()}


def documentation(function: Callable[..., Any], owner: type | None) -> str:
    """Return the docstring with that of the class, which tells what all methods have in common.

    Asynchronous ones that refer to their synchronous counterpart say what that says.
    """
    text = f"{function.__doc__ or ''}\n{(owner.__doc__ or '') if owner else ''}"
    for name in re.findall(r":(?:class|meth|func):`~?persipubsub\.(\w+)", text) if "aio" in function.__module__ else ():
        other = getattr(persipubsub, name)
        text += f"\n{other.__doc__}\n{getattr(getattr(other, function.__name__, None), '__doc__', '')}"
    return text


def error_class(name: str) -> type[BaseException] | None:
    found = getattr(persipubsub, name, None) or getattr(builtins, name, None)
    return found if inspect.isclass(found) and issubclass(found, BaseException) else None


def documented(text: str) -> set[type[BaseException]]:
    return {kind for name in re.findall(r":raise (\w+):", text) if (kind := error_class(name))}


def raised(function: Callable[..., Any], owner: type | None, seen: set[str]) -> set[type[BaseException]]:
    """Return the errors that a function raises itself, by private methods of its class, and by what it checks with."""
    found: set[type[BaseException]] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            kind = error_class(node.exc.func.id)
            found |= {kind} if kind else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = function.__globals__.get(node.func.id)
            if inspect.isfunction(called) and called.__module__.startswith("persipubsub"):
                found |= documented(called.__doc__ or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and owner:
            name = node.func.attr
            method = inspect.getattr_static(owner, name, None)
            is_own = isinstance(node.func.value, ast.Name) and node.func.value.id == "self"
            if is_own and name.startswith("_") and inspect.isfunction(method) and name not in seen:
                found |= raised(method, owner, seen | {name})
    return found


def test_there_is_something_to_look_at() -> None:
    assert len(CALLABLES) > 120
    assert "persipubsub.Publisher.send" in CALLABLES
    assert "persipubsub.aio.Subscriber.get" in CALLABLES
    assert {each.__name__ for each in raised(*CALLABLES["persipubsub.Publisher.send_many"], set())} >= {"MessageError"}


@pytest.mark.parametrize("name", THINGS)
def test_everything_public_has_a_docstring(name: str) -> None:
    first = (THINGS[name].__doc__ or "").strip().splitlines()[0]
    assert re.search(r"[.;:]$", first), first


@pytest.mark.parametrize("name", [name for name in CALLABLES if not name.endswith("__init__")])
def test_summary_and_arguments(name: str) -> None:
    function, owner = CALLABLES[name]
    summary = (function.__doc__ or "").strip().splitlines()[0]
    assert re.search(r"[.;,:]$|\w$", summary)
    text = documentation(function, owner)
    if re.search(r"arguments( and errors)? are those of", " ".join((function.__doc__ or "").split())):
        return
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert re.search(rf"\b{parameter.name}\b", text), f"{name} does not tell what {parameter.name} is"


@pytest.mark.parametrize("name", [name for name in CALLABLES if not name.endswith("__init__")])
def test_what_is_raised_is_said(name: str) -> None:
    function, owner = CALLABLES[name]
    said = documented(documentation(function, owner))
    missing = {
        kind.__name__
        for kind in raised(function, owner, set()) - {persipubsub.PersipubsubError}
        if not any(issubclass(kind, each) for each in said)
    }
    assert not missing, f"{name} raises {', '.join(sorted(missing))}, which its docstring does not say"


@pytest.mark.parametrize("name", CALLABLES)
def test_times_have_their_unit(name: str) -> None:
    function, owner = CALLABLES[name]
    text = documentation(function, owner)
    if TIMES - {"backoff"} & inspect.signature(function).parameters.keys() and "arguments are those of" not in text:
        assert re.search(r"\bseconds?\b", text), name


@pytest.mark.parametrize("name", ["Environment", "Publisher", "Subscriber", "Control"])
def test_classes_tell_what_survives_and_what_the_world_may_do(name: str) -> None:
    text = " ".join((getattr(persipubsub, name).__doc__ or "").split())
    assert re.search(r"\b(dies|crash)\b", text), "what a crash leaves"
    assert documented(text) >= {
        *(
            persipubsub.ClosedError,
            persipubsub.QueueBusyError,
            persipubsub.QueueReplacedError,
            persipubsub.StorageError,
        ),
    }


@pytest.mark.parametrize(
    "thing", [persipubsub.care, persipubsub.relay.Relay, persipubsub.metrics.QueueCollector, persipubsub.testing.Queue]
)
def test_others_tell_of_threads_and_waits(thing: Any) -> None:
    text = " ".join(
        f"{thing.__doc__} {getattr(thing, 'run', thing).__doc__} {getattr(thing, 'collect', thing).__doc__}".split()
    )
    assert re.search(r"\bthreads?\b", text), "which threads may use it"
    assert re.search(r"\b(blocks?|waits?)\b", text, re.IGNORECASE), "whether it waits"


@pytest.mark.parametrize("name", OF_THE_QUEUE)
def test_classes_tell_of_threads_and_transactions(name: str) -> None:
    text = " ".join((getattr(persipubsub, name).__doc__ or "").split())
    assert re.search(r"\bthreads?\b", text), "which threads may use it"
    assert re.search(r"\b(blocks?|waits?)\b", text), "whether its methods wait"
    assert re.search(r"\b(transactions?|atomic)\b", text), "what is atomic"
    assert ">>>" in text, "an example"


def test_errors_tell_what_to_do() -> None:
    for name in persipubsub.__all__:
        kind = getattr(persipubsub, name)
        if inspect.isclass(kind) and issubclass(kind, persipubsub.PersipubsubError):
            assert "What to do: " in (kind.__doc__ or ""), name


def test_every_public_name_is_in_the_reference() -> None:
    pages = importlib.import_module("tests.docs.pages").DOCS / "reference"
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages.glob("*.rst"))
    whole = set(re.findall(r"automodule:: (persipubsub\.\w+)\n   :members:\n", text))
    for name, thing in THINGS.items():
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            continue
        module, _, own = name.rpartition(".")
        listed = re.search(rf"automodule:: {module}\n   :members: (.*)\n", text)
        assert module in whole or f"{name}\n" in text or (listed and own in listed[1].split(", ")), name
