"""What the reference writes from the code is all of it."""

import importlib
import sys
from typing import Any

import msgspec
import pytest

import persipubsub
from persipubsub.config import schema
from persipubsub.engine.local import format as on_disk
from tests.docs.pages import DOCS
from tests.unit.test_cli_rules import COMMANDS


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports an extension of the documentation, as Sphinx does."""
    monkeypatch.setattr(sys, "path", [str(DOCS / "_ext"), *sys.path])
    return importlib.import_module


def test_every_command_is_there(extension: Any) -> None:
    helps = dict(extension("command_line").helps())
    for command in COMMANDS:
        text = helps[" ".join(["persipubsub", *command])]
        assert text.startswith(f"Usage: persipubsub {' '.join(command)} ")
        assert "\x1b" not in text


def test_every_key_of_the_schema_is_there(extension: Any) -> None:
    text = "\n".join(extension("json_schema").as_rst(schema()))
    for definition in schema()["$defs"].values():
        for key in definition.get("properties", {}):
            assert f"   * - ``{key}``" in text, key
    assert "None" not in text


def test_every_error_is_there(extension: Any) -> None:
    names = {kind.__name__ for kind in extension("error_table").classes()}
    assert names == {name for name in persipubsub.__all__ if name.endswith("Error")}


def test_every_record_of_the_format_is_there(extension: Any) -> None:
    page = (DOCS / "reference" / "format.rst").read_text(encoding="utf-8")
    for name, record in vars(on_disk).items():
        is_record = isinstance(record, type) and issubclass(record, msgspec.Struct)
        if is_record and record.__struct_config__.array_like:
            fields = extension("record_table").fields(name)
            assert [field for _, field, *_ in fields] == [f"``{field}``" for field in record.__struct_fields__]
            assert all(meaning for *_, meaning in fields), "what a field means stands above it"
            assert f".. record:: {name}\n" in page
