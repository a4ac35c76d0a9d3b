"""Diagrams render in light and in dark: they have no colours of their own."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.pages import DOCS

DIAGRAMS = sorted((DOCS / "_diagrams").glob("*.svg"))
COLOUR = re.compile(r"none|currentColor|var\(--color-[a-z-]+\)|url\(#\w+\)")


@pytest.mark.parametrize("path", DIAGRAMS, ids=lambda path: path.stem)
def test_it_takes_the_colours_of_the_page(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    assert root.get("aria-label"), "those who do not see it are told what it shows"
    for element in root.iter():
        for attribute in ("fill", "stroke", "color", "stop-color"):
            colour = element.get(attribute)
            assert colour is None or COLOUR.fullmatch(colour), f"{path.name}: {attribute}={colour}"
        assert element.get("style") is None


def test_each_is_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.rst"))
    assert {path.stem for path in DIAGRAMS} == set(re.findall(r"^\.\. diagram:: (\w+)$", text, re.MULTILINE))
