"""Digests of the code behind a named object, for the identity of a study.

A digest covers one definition as the parser sees it, without comments, docstrings and formatting.
Definitions that the object does not use are left out, so that a study's module may get another
space or metric for another study.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nas.core import plugins

OWN_PACKAGES = frozenset({"nas", "search_spaces", "workers"})
"""Packages of osa-nas, whose objects are identified by their names."""


class Place(NamedTuple):
    """A definition in a module; the whole module if the name is empty."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


def code_digests(group: str, name: str, folder: Path) -> dict[str, str]:
    """Return a SHA-256 of each definition that a named object consists of, by its module and name.

    Definitions are followed within the module, and into other modules in `folder`. Nothing is
    returned for objects of osa-nas, which their names identify, and for modules without source.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
    else:
        entry = plugins.entry_point(group, name)
        if entry is None:
            return {}
        module, attribute = entry.module, entry.attr
    if module.partition(".")[0] in OWN_PACKAGES:
        return {}
    sources = _Sources(module, folder)
    texts: dict[Place, str] = {}
    pending = [Place(module, attribute)]
    while pending:
        place = pending.pop()
        if place not in texts:
            statements = sources.defining(place)
            texts[place] = "\n".join(map(ast.unparse, statements))
            pending += [used for each in statements for used in sources.used_by(each, place.module)]
    return {
        str(place): hashlib.sha256(text.encode()).hexdigest()
        for place, text in sorted(texts.items())
        if text
    }


class _Sources:
    """The top-level statements of a module, and of the modules in a folder."""

    def __init__(self, module: str, folder: Path) -> None:
        self._module, self._folder = module, folder
        self._bodies: dict[str, list[ast.stmt]] = {}

    def defining(self, place: Place) -> list[ast.stmt]:
        """Return the statements that define a name. For one that no statement defines, those are
        returned that may: star imports and a module's `__getattr__`.
        """
        body = self._body(place.module)
        if not place.name:
            return body
        defining = [statement for statement in body if place.name in _defined(statement)]
        return defining or [each for each in body if _defined(each) & {"*", "__getattr__"}]

    def used_by(self, statement: ast.stmt, module: str) -> Iterator[Place]:
        """Yield everything that a statement of a module refers to. A star import may define any of
        its names.
        """
        names = _names(statement) | {"*"}
        for other in self._body(module):
            for name in names & _defined(other):
                yield Place(module, name)
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Place(alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                package = self._absolute(node, module)
                for alias in node.names:
                    yield Place(package, "" if alias.name == "*" else alias.name)
                    yield Place(f"{package}.{alias.name}", "")  # it may be a module

    def _body(self, module: str) -> list[ast.stmt]:
        """Return the statements of a module; none for one without source, and for other modules
        outside of the folder.
        """
        if module not in self._bodies:
            file = self._file(module)
            self._bodies[module] = [] if file is None else _statements(file)
        return self._bodies[module]

    def _file(self, module: str) -> Path | None:
        path = self._folder.joinpath(*module.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
        loaded = sys.modules.get(module) if module == self._module else None
        source = getattr(loaded, "__file__", None)  # modules that are part of Python have none
        return Path(source) if source else None

    def _absolute(self, node: ast.ImportFrom, module: str) -> str:
        """Return the absolute name of the module from which a module imports something."""
        file = self._file(module)
        if not node.level or file is None:
            return node.module or ""
        parts = module.split(".")
        parents = parts if file.name == "__init__.py" else parts[:-1]
        package = parents[: len(parents) - (node.level - 1)]
        return ".".join([*package, node.module] if node.module else package)


def _statements(file: Path) -> list[ast.stmt]:
    """Return the top-level statements of a source file, each import by itself. Docstrings, other
    texts that stand alone, and what runs only as a script are left out.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):  # a compiled module, for one
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass()]
    statements: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            statements += [ast.Import([alias]) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            module, level = statement.module, statement.level
            statements += [ast.ImportFrom(module, [alias], level) for alias in statement.names]
        elif not _is_text(statement) and not _is_script(statement):
            statements.append(statement)
    return statements


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_script(statement: ast.stmt) -> bool:
    """Return whether this is `if __name__ == "__main__"`."""
    return isinstance(statement, ast.If) and "__name__" in _names(statement.test)


def _defined(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines or may change."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign):
        return {name for target in statement.targets for name in _names(target)}
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        return _names(statement.target)
    inner = [node for node in ast.walk(statement) if isinstance(node, ast.stmt)]
    return _names(statement).union(*(_defined(node) for node in inner if node is not statement))


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
