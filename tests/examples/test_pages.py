"""Programs do what their pages show, and no row of a page's tables goes without a check."""

import importlib
import re
import shlex

import pytest

import persipubsub
from persipubsub import config, serializers
from tests.examples.support import CHECKED, EXAMPLES, page_of, rows_of, run, shown_output

#: A program that is not in Python; it has a test of its own.
IN_C = "reader_in_c"
EXAMPLE_NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/main.py"))
RECIPES = [name for name in EXAMPLE_NAMES if name.startswith("from_")]
#: What two runs do not print alike.
VARYING = {"pipeline"}
#: What may have the methods that pages name.
OURS = [getattr(persipubsub, name) for name in persipubsub.__all__] + [config, serializers, persipubsub]


def test_there_are_recipes_and_patterns() -> None:
    assert len(RECIPES) == 10
    assert set(EXAMPLE_NAMES) - set(RECIPES) == {
        "edge_to_centre",
        "ephemeral",
        "graceful_shutdown",
        "pipeline",
        "web_service",
    }


@pytest.mark.parametrize("name", [name for name in EXAMPLE_NAMES if name not in VARYING])
def test_the_program_prints_what_its_page_shows(name: str) -> None:
    command, output = shown_output(page_of(name))
    python, *arguments = shlex.split(command)
    assert (python, arguments) == ("python", [f"examples/{name}/main.py"])
    outcome = run(*arguments)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.splitlines() == output.splitlines()


@pytest.mark.parametrize("name", RECIPES)
def test_every_row_of_the_page_is_checked(name: str) -> None:
    module = importlib.import_module(f"tests.examples.test_{name}").__name__
    rows = [theirs.replace("``", "") for theirs, _ in rows_of(page_of(name))]
    assert sorted(rows) == sorted(CHECKED[module])


@pytest.mark.parametrize("name", [*RECIPES, "pipeline"])
def test_pages_name_methods_that_exist(name: str) -> None:
    named = {
        method
        for _, ours in rows_of(page_of(name))
        for code in re.findall(r"``(.+?)``", ours)
        for method in re.findall(r"\.(\w+)\(", code)
    }
    assert named
    assert {method for method in named if not any(hasattr(each, method) for each in OURS)} == set()


def test_the_index_leads_to_every_example() -> None:
    index = (EXAMPLES / "README.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r"<(\w+)/README\.rst>`_", index)) == sorted([*EXAMPLE_NAMES, IN_C])


def test_the_pipeline_survives_the_storm() -> None:
    outcome = run("examples/pipeline/main.py", "--kills", "25", "--seed", "2")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    first, second = outcome.stdout.splitlines()
    shown_first, shown_second = shown_output(page_of("pipeline"))[1].splitlines()
    assert re.sub(r"\d+", "0", first) == re.sub(r"\d+", "0", shown_first)
    assert first.startswith("2500 inputs, 25 workers killed, ")
    assert second == shown_second
