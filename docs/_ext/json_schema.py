"""``.. json-schema::`` renders the JSON Schema of a deployment file: a table for each object."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from persipubsub.config import schema


class JsonSchema(SphinxDirective):
    """The keys of every object with their types, defaults and meanings."""

    def run(self) -> list[nodes.Node]:
        """Write reST and let Sphinx parse it."""
        return self.parse_text_to_nodes("\n".join(as_rst(schema())), allow_section_headings=True)


def as_rst(whole: dict[str, Any]) -> list[str]:
    """Return the pages' lines for the definitions of a schema, outermost first."""
    lines: list[str] = []
    for name in _TITLES:
        definition = whole["$defs"][name]
        lines += [f".. _schema-{name.lower()}:", "", _TITLES[name], "-" * len(_TITLES[name]), ""]
        lines += [definition["description"], "", ".. list-table::", "   :header-rows: 1", "   :widths: 24 30 16 50", ""]
        lines += _row("key", "type", "default", "meaning")
        required = definition.get("required", [])
        for key, about in definition["properties"].items():
            default = "required" if key in required else _literal(about.get("default", {}))
            if isinstance(about.get("default"), dict):
                default = "that of its keys"
            meaning = about.get("description") or whole["$defs"][about["$ref"].rpartition("/")[2]]["description"]
            lines += _row(f"``{key}``", _type(about, whole), default, meaning)
        lines.append("")
    return lines


_TITLES = {
    "ConfigFile": "The file",
    "QueueFile": "A queue",
    "SubscriberFile": "A subscriber",
    "HighWaterMarkFile": "A high-water mark",
    "TlsFile": "Certificates",
}


def _row(first: str, *others: str) -> list[str]:
    return [f"   * - {first}", *(f"     - {other}" for other in others)]


def _literal(value: Any) -> str:
    if value is None:
        return "``null``"
    return (
        f"``{value}``" if isinstance(value, str) else f"``{str(value).lower() if isinstance(value, bool) else value}``"
    )


def _type(about: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return the type of a value in words."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        definition = whole["$defs"][name]
        if "enum" in definition:
            return " or ".join(f"``{value}``" for value in sorted(definition["enum"]))
        return f":ref:`{_TITLES[name].lower()} <schema-{name.lower()}>`"
    for words in ("anyOf", "allOf"):
        if words in about:
            return " or ".join(_type(each, whole) for each in about[words])
    if "enum" in about:
        return " or ".join(f"``{value}``" for value in about["enum"])
    if about["type"] == "array":
        return f"list of {_type(about['items'], whole)}"
    if about["type"] == "object":
        return f"names, each with {_type(about['additionalProperties'], whole)}"
    low = "".join(
        f" {sign} {about[key]}" for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">")) if key in about
    )
    return f"{about['type']}{low}"


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("json-schema", JsonSchema)
    return {"parallel_read_safe": True}
