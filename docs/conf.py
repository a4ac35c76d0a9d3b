"""How the documentation is built: ``python -m sphinx -W -n -b html docs docs/_build/html``."""

import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
# The tree that these pages describe, installed or not; and the extensions beside this file.
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

project = "persipubsub"
author = "persipubsub contributors"
copyright = "persipubsub contributors, MIT license"
version = release = "2"

extensions = [
    "myst_parser",  # the benchmarks write their page as Markdown
    "sphinx.ext.autodoc",
    "sphinx_icontract",
    "command_line",
    "error_table",
    "json_schema",
    "public_names",
    "record_table",
    "svg_diagram",
]
exclude_patterns = ["_build", "_figures"]  # tables for other pages
html_theme = "furo"
html_title = "persipubsub 2"
html_static_path = ["_static"]
html_css_files = ["house.css"]
html_copy_source = False
html_show_sphinx = False

nitpicky = True
# What stands in signatures only: others' types, type variables, and blocks that are used by ``with`` alone.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!persipubsub\.)[a-z_]\w*\..*"),
    (r"py:.*", r"persipubsub\.(\w+\.)+[A-Z]"),
    (r"py:.*", r"persipubsub\.(aio|delivery)\.receiving\.\w+"),
    (r"py:.*", r"persipubsub\.serializers\.ProtobufMessage"),
    (
        r"py:.*",
        r"persipubsub\.(engine\.clock\.Clock|delivery\.iteration\.Loop|message\.Received|aio\.(waiting|thread)\.\w+)",
    ),
]
suppress_warnings = ["toc.multiple_toc_parents"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "class"
python_maximum_signature_line_length = 88
highlight_language = "none"
pygments_style = "tango"
pygments_dark_style = "github-dark"


def copy_plots(app: Sphinx, error: Exception | None) -> None:
    """Put the plots beside the page of the benchmarks, which shows one for light and one for dark backgrounds."""
    if error is None:
        shutil.copytree(HERE / "plots", Path(app.outdir) / "plots", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Add what is done at the end of a build."""
    app.connect("build-finished", copy_plots)
