"""``.. diagram:: name`` puts the SVG file ``_diagrams/name.svg`` into the page itself, with the content as caption.

An SVG inside the page takes the colours of the theme, light or dark, where one in an ``<img>`` cannot. It is
written by hand, with ``currentColor`` for ink and ``var(--color-…)`` for what else there is.
"""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Diagram(SphinxDirective):
    """A figure with a drawing from ``_diagrams``."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Read the file into the page."""
        path = Path(str(self.env.srcdir)) / "_diagrams" / f"{self.arguments[0]}.svg"
        self.env.note_dependency(str(path))
        figure = nodes.figure(classes=["diagram"])
        figure += nodes.raw("", path.read_text(encoding="utf-8"), format="html")
        caption = nodes.caption()
        text, messages = self.state.inline_text(" ".join(self.content), self.lineno)
        caption += text
        figure += caption
        return [figure, *messages]


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("diagram", Diagram)
    return {"parallel_read_safe": True}
