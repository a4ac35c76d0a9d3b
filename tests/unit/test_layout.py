"""Which module may import which: arrows point one way, and LMDB stays where it belongs."""

import ast
import graphlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "persipubsub"

#: The module that begins all LMDB transactions.
STORE = "persipubsub.engine.local.store"
#: Others that may import lmdb: they name its errors and types, grow the map, look at files before they are opened,
#: copy an environment.
LMDB_HELPERS = {
    f"persipubsub.engine.local.{name}"
    for name in (
        "translate",
        "space",
        "files",
        "work",
        "reading",
        "writing",
        "committing",
        "copying",
        "vitals",
        "mapped",
    )
}

ENGINES = ("local", "memory", "jetstream")

#: The parts of the package (first components below it; empty for the package itself), from the bottom up: a part may
#: import its own layer and those below.
LAYERS = [
    {"errors", "names", "limits", "configfile", "paths"},
    {"engine"},
    set(),  # the core: the public classes and what they share; every part that is not named here
    {"environment", "manager", ""},
    {"aio", "care", "config", "deployment", "metrics", "relay", "testing", "tracing"},
    {"demo", "watch"},
    {"cli"},
]
CORE = 2


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Walk over the nodes that run, wherever they stand; what only type checkers see makes no arrow."""
    for child in ast.iter_child_nodes(node):
        if not is_for_typing(child):
            yield child
            yield from walk(child)


def imported(name: str) -> set[str]:
    """Return the dotted names that a module imports, anywhere in it; of ours, the modules they stand in."""
    path = MODULES[name]
    found: set[str] = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*base, source] if source else base)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in MODULES else source)
    return found


def part(name: str) -> str:
    """Return the first component below the package; empty for the package itself."""
    return name.split(".")[1] if "." in name else ""


def layer(name: str) -> int:
    return next((number for number, parts in enumerate(LAYERS) if part(name) in parts), CORE)


def ours(name: str) -> set[str]:
    return {target for target in imported(name) if target.split(".")[0] == "persipubsub"}


def test_the_walk_sees_imports() -> None:
    assert "persipubsub.names" in ours("persipubsub.limits")
    assert "dataclasses" in imported("persipubsub.limits")


@pytest.mark.parametrize("name", MODULES)
def test_arrows_point_one_way(name: str) -> None:
    wrong = {target for target in ours(name) if layer(target) > layer(name)}
    assert not wrong, f"{name} must not import {wrong}"


def test_no_module_imports_itself_through_others() -> None:
    tuple(graphlib.TopologicalSorter({name: ours(name) - {name} for name in MODULES}).static_order())


def test_the_format_imports_nothing_of_ours() -> None:
    assert ours("persipubsub.engine.local.format") == set()
    assert "lmdb" not in imported("persipubsub.engine.local.format")


def test_the_core_knows_no_particular_engine() -> None:
    particular = tuple(f"persipubsub.engine.{name}" for name in ENGINES)
    for name in MODULES:
        if layer(name) == CORE:
            assert not {target for target in ours(name) if target.startswith(particular)}, name


def test_engines_do_not_know_each_other() -> None:
    for one, other in itertools.permutations(ENGINES, 2):
        for name in MODULES:
            if name.startswith(f"persipubsub.engine.{one}"):
                assert not {target for target in ours(name) if target.startswith(f"persipubsub.engine.{other}")}, name


def test_nats_is_imported_by_its_engine_alone_and_only_when_it_is_opened() -> None:
    users = {name for name in MODULES if any(target.split(".")[0] == "nats" for target in imported(name))}
    assert users
    assert {name for name in users if not name.startswith("persipubsub.engine.jetstream.")} == set()
    for name in MODULES:
        if not name.startswith("persipubsub.engine.jetstream."):
            tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
            at_import = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
            assert not {module for module in at_import if module and module.startswith("persipubsub.engine.jetstream")}


def test_lmdb_is_imported_in_few_places() -> None:
    users = {name for name in MODULES if any(target.split(".")[0] == "lmdb" for target in imported(name))}
    assert STORE in users
    assert users <= {STORE, *LMDB_HELPERS}


def test_only_the_store_begins_transactions() -> None:
    beginners = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if name.startswith("persipubsub.engine.local")
        and isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "begin"
    }
    assert beginners == {STORE}


def test_importing_the_package_is_light() -> None:
    """Nothing optional and nothing large is loaded before it is needed."""
    # A measured child would import things before us.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    code = "import sys, json; import persipubsub; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    loaded = set(json.loads(output.stdout))
    assert "persipubsub.environment" in loaded
    heavy = {
        "prometheus_client",
        "opentelemetry",
        "typer",
        "click",
        "rich",
        "asyncio",
        "nats",
        "multiprocessing",
        "pytest",
        "hypothesis",
        "pydantic",
        "textual",
        "starlette",
        "uvicorn",
    }
    assert not loaded & heavy
    assert not {
        name for name in loaded if name.startswith(("persipubsub.cli", "persipubsub.demo", "persipubsub.watch"))
    }
