"""Gives a role, ``:page:``: it leads to a page if there is one of that name, else it is the text alone.

For pages whose authors write them elsewhere, such as the results of the benchmark.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import ReferenceRole


class Page(ReferenceRole):
    """A reference that may come to nothing."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Look whether the page exists."""
        if self.target.removeprefix("/") not in self.env.found_docs:
            return [nodes.inline(self.rawtext, self.title)], []
        options = {"reftype": "doc", "refdomain": "std", "reftarget": self.target, "refexplicit": True}
        reference = pending_xref(self.rawtext, refdoc=self.env.docname, refwarn=True, **options)
        reference += nodes.inline(self.rawtext, self.title)
        return [reference], []


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the role."""
    sphinx.add_role("page", Page())
    return {"parallel_read_safe": True}
