"""``.. record:: Name`` lists the fields of a MessagePack record of the on-disk format, in order, from the code."""

import ast
import inspect

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from persipubsub.engine.local import format as on_disk


class Record(SphinxDirective):
    """A table: place in the array, name, type, default, meaning."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write reST and let Sphinx parse it."""
        self.env.note_dependency(str(on_disk.__file__))
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 8 24 18 14 50", ""]
        for first, *others in [("place", "field", "type", "default", "meaning"), *fields(self.arguments[0])]:
            lines += [f"   * - {first}", *(f"     - {other}" for other in others)]
        return self.parse_text_to_nodes("\n".join(lines))


def fields(name: str) -> list[tuple[str, str, str, str, str]]:
    """Return the fields of a record, with the comments that stand above them."""
    source = inspect.getsource(on_disk).splitlines()
    tree = ast.parse("\n".join(source))
    found: list[tuple[str, str, str, str, str]] = []
    (record,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    for field in record.body:
        if isinstance(field, ast.AnnAssign):
            meaning: list[str] = []
            above = field.lineno - 2
            while source[above].strip().startswith("#:"):
                meaning.insert(0, source[above].strip()[2:].strip())
                above -= 1
            default = f"``{ast.unparse(field.value)}``" if field.value else "required"
            kind = ast.unparse(field.annotation).replace("None", "nil")
            found.append((str(len(found)), f"``{ast.unparse(field.target)}``", kind, default, " ".join(meaning)))
    return found


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("record", Record)
    return {"parallel_read_safe": True}
