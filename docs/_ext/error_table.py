"""``.. error-table::`` lists every error: what it means, what else it is, and what to do, from the classes."""

import inspect

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from persipubsub import errors


class ErrorTable(SphinxDirective):
    """A description of each error class, in the order of the module."""

    def run(self) -> list[nodes.Node]:
        """Write reST and let Sphinx parse it."""
        lines: list[str] = []
        for kind in classes():
            lines += [f".. autoexception:: persipubsub.{kind.__name__}", "   :show-inheritance:", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def classes() -> list[type[errors.PersipubsubError]]:
    """Return the errors in the order in which they are defined."""
    found = [
        kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.PersipubsubError)
    ]
    return sorted(found, key=lambda kind: inspect.getsourcelines(kind)[1])


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("error-table", ErrorTable)
    return {"parallel_read_safe": True}
