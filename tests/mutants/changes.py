"""All small changes of a module, by its syntax tree."""

import ast
import difflib
from collections.abc import Iterator

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Break: ast.Continue,
    ast.Continue: ast.Break,
}


class _Changer(ast.NodeTransformer):
    """Makes the nth change that is possible; counts them if there are not so many."""

    def __init__(self, nth: int) -> None:
        self.count = 0
        self.line = 0
        self._nth = nth
        self._line = 0

    def _is_it(self) -> bool:
        self.count += 1
        if self.count - 1 == self._nth:
            self.line = self._line
            return True
        return False

    def visit(self, node: ast.AST) -> ast.AST:
        self._line = getattr(node, "lineno", self._line)
        swapped = _SWAPPED.get(type(node))
        if swapped is not None and self._is_it():
            return ast.copy_location(swapped(), node) if isinstance(node, ast.stmt) else swapped()
        found: ast.AST = super().visit(node)
        return found

    # What is no behaviour: annotations, the kinds of classes, and the words of errors.

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self._all_but(node, "annotation")

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._all_but(node, "returns")

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._all_but(node, "keywords")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def _all_but(self, node: ast.AST, field: str) -> ast.AST:
        kept = getattr(node, field)
        setattr(node, field, [] if isinstance(kept, list) else None)
        self.generic_visit(node)
        setattr(node, field, kept)
        return node

    # Changes that are no swap.

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return node  # a docstring
        return ast.copy_location(ast.Pass(), node) if self._is_it() else self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return ast.copy_location(ast.Pass(), node) if self._is_it() else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        return self._negated(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._negated(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        return self._negated(node)

    def _negated(self, node: ast.If | ast.IfExp | ast.While) -> ast.AST:
        # A comparison is swapped anyway, where it stands alone.
        if not isinstance(node.test, ast.Compare) and self._is_it():
            node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
            return node
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) and self._is_it():
            return ast.copy_location(ast.Constant(not node.value), node)
        if type(node.value) is int and self._is_it():
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node


def count(source: str) -> int:
    """Return how many changes there are of a module."""
    changer = _Changer(-1)
    changer.visit(ast.parse(source))
    return changer.count


def mutate(source: str, nth: int) -> tuple[ast.Module, int]:
    """Return the syntax tree of the module with one change, counted from 0, and the line of it."""
    tree = ast.parse(source)
    changer = _Changer(nth)
    changer.visit(tree)
    if nth >= changer.count:
        raise IndexError(f"There are {changer.count} changes, so none has the number {nth}.")
    return ast.fix_missing_locations(tree), changer.line


def change(source: str, nth: int) -> tuple[str, int]:
    """Return the text of the module with one change, counted from 0, and the line of it."""
    tree, line = mutate(source, nth)
    return ast.unparse(tree), line


def difference(source: str, changed: str) -> Iterator[str]:
    """Yield the lines by which two modules differ, without their comments."""
    before, after = (ast.unparse(ast.parse(text)).splitlines() for text in (source, changed))
    for line in difflib.unified_diff(before, after, lineterm="", n=2):
        if not line.startswith(("---", "+++")):
            yield line
