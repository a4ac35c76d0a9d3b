"""Puts the code of a changed module into the functions of the one that is imported: nothing has to be imported anew."""

import ast
import gc
import inspect
import pathlib
import types
from collections.abc import Iterator

Pairs = list[tuple[types.CodeType, types.CodeType]]


def pairs(source: str, changed: ast.Module, path: pathlib.Path) -> Pairs | None:
    """Return the code of each function that differs, before and after.

    :return: None, if more than functions differs: what is run when the module is imported
    """
    before = compile(ast.parse(source), str(path), "exec")
    after = compile(changed, str(path), "exec")
    found: Pairs = []
    return found if _collect(before, after, found) else None


def _collect(before: types.CodeType, after: types.CodeType, found: Pairs) -> bool:
    inside = [_inside(code) for code in (before, after)]
    if len(inside[0]) != len(inside[1]) or before.co_freevars != after.co_freevars:
        return False
    if before.co_flags & inspect.CO_OPTIMIZED:
        if before != after:
            found.append((before, after))
    elif _own(before) != _own(after):
        return False
    return all(_collect(one, other, found) for one, other in zip(*inside, strict=True))


def _inside(code: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def _own(code: types.CodeType) -> object:
    """Return what a module or a body of a class does itself."""
    constants = [
        (type(each), each if not isinstance(each, types.CodeType) else each.co_qualname) for each in code.co_consts
    ]
    return code.co_code, constants, code.co_names


def functions(folder: pathlib.Path) -> Iterator[types.FunctionType]:
    """Yield all functions that there are of the modules in a folder, wrapped ones and those inside others, too."""
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__code__.co_filename.startswith(str(folder)):
            yield thing


def patch(known: list[types.FunctionType], path: pathlib.Path, differing: Pairs) -> int:
    """Give functions of a module their changed code; return how many got one."""
    patched = 0
    for function in known:
        if function.__code__.co_filename == str(path):
            for before, after in differing:
                if function.__code__ == before:
                    function.__code__ = after
                    patched += 1
                    break
    return patched
