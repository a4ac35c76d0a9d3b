"""The pages say what is so: every block that can be run is run, and the runner itself can fail."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, SHOWN_ONLY, blocks, pages, run


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_page_runs(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    run(page, folder)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_nothing_on_the_page_is_left_out(page: Path) -> None:
    for block in blocks(page):
        runs = block.language in ("python", "console") or "caption" in block.options
        assert runs or block.language in SHOWN_ONLY or not block.language, f"{name_of(page)}:{block.line}"


def run_text(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(text, encoding="utf-8")
    folder = tmp_path / "reader"
    folder.mkdir()
    run(page, folder)


@pytest.mark.parametrize(
    "text",
    [
        ".. code-block:: console\n\n   $ echo one\n   two\n",
        ".. code-block:: console\n\n   $ false\n",
        ".. code-block:: python\n\n   >>> 1 + 1\n   3\n",
        ".. code-block:: python\n\n   1 + 1\n",
        ".. code-block:: python\n   :caption: it.py\n\n   1 +\n\n.. code-block:: console\n\n   $ python it.py\n",
    ],
)
def test_the_runner_sees_what_is_wrong(text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run_text(text, tmp_path)


def test_the_runner_keeps_terminals_and_names(tmp_path: Path) -> None:
    text = """
.. code-block:: console
   :caption: one
   :class: goes-on

   $ x=3; mkfifo pipe; echo ready; read line < pipe; echo got $line
   ready

.. code-block:: console
   :caption: two

   $ echo hello > pipe
   $ echo long \\
     line
   long line

.. code-block:: console
   :caption: one

   got hello

.. code-block:: console
   :caption: one

   $ echo $x
   3
"""
    run_text(text, tmp_path)
