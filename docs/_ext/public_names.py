"""Public names as users know them: by the package they are imported from, without constructors that are not theirs.

Signatures name a class by the module it stands in; readers, and the pages, by the package. Both find it.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment

import persipubsub


def resolve(
    sphinx: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Find what a reference names by its last part, if that is public."""
    if node.get("refdomain") != "py":
        return None
    head, _, member = str(node["reftarget"]).removeprefix("persipubsub.").rpartition(".")
    names = [member, *([f"{head.rpartition('.')[2]}.{member}"] if head else [])]
    wants_aio = str(node["reftarget"]).startswith("persipubsub.aio.")
    domain = environment.get_domain("py")
    if not isinstance(domain, PythonDomain):
        return None
    for name in names:
        if name.partition(".")[0] not in persipubsub.__all__:
            continue
        for package in ("persipubsub.aio", "persipubsub") if wants_aio else ("persipubsub", "persipubsub.config"):
            if f"{package}.{name}" in domain.objects:
                node["reftarget"] = f"{package}.{name}"
                found = domain.resolve_any_xref(
                    environment, node["refdoc"], sphinx.builder, node["reftarget"], node, content
                )
                if found:
                    return found[0][1]
    return None


#: What the constructors of classes begin with that users get from other objects and do not make.
_INNER = ("connection", "holder", "record", "identifier", "engine", "thread", "shared", "delivery", "location")


def hide_constructor(
    sphinx: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Leave out the arguments of a constructor that users do not call."""
    if what == "class" and signature and signature.lstrip("(*, ").startswith(_INNER):
        return "", None
    return signature, returns


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Listen to references that were not found, and to signatures."""
    sphinx.connect("autodoc-process-signature", hide_constructor)
    sphinx.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
