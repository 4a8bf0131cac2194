"""Exceptions planted in a real daemon, at every call and every await of the modules behind the handlers.

    x = await self._files.read(fh)      ->      x = (_planted(7), await (_planted(8), self._files.read(fh))[1])[1]

The modules are rewritten as they are imported, so a new line of code is a new site without any list. The
daemon and the test share a small file: the number of the site that is to raise, once; and one byte per site that was
passed. `planting CONTROL mount OPTIONS_AS_JSON` is `driver` with that.
"""

import ast
import importlib.abc
import importlib.machinery
import mmap
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

__all__ = ["ASIDE", "MODULES", "Control", "PlantedError", "Site", "sites"]

ROOT = Path(__file__).parents[2]
_FLOORS = ("view", "serving", "fuse")
ASIDE = {
    "view.options": "looked at before anything is mounted",
    "view.log_destination": "the same",
    "view.confinement": "a value, made before the first request",
    "serving.assembly": "run once, before the first request",
    "serving.inspection": "a task by itself",
    "serving.images.memory_budget": "does something only where very much is asked for",
    "serving.scheduling.turns": "the same",
    "fuse.fusectl": "called once, before the first request",
    "fuse.readahead": "the same",
    "fuse.session": "the same",
}
"""Modules in which no exception is planted, each with why."""
MODULES = tuple(
    f"vdifs.mount.{name}"
    for floor in _FLOORS
    for path in sorted((ROOT / "vdifs/mount" / floor).rglob("[!_]*.py"))
    if (name := ".".join(path.relative_to(ROOT / "vdifs/mount").with_suffix("").parts)) not in ASIDE
)
"""All that runs between the request loop and the images. Order gives the sites their numbers."""

HURRIED = {
    "serving.change_watch": {"WATCH_S": 0.05},
    "serving.images.open_images": {"IDLE_S": 0.3},
    "serving.scanner": {"MAX_AGE_S": 0.1},
}
"""What is looked at more often than in an ordinary mount, so that a test waits less."""

_NAME = "_planted"


class PlantedError(Exception):
    """A bug that was not foreseen."""


class Site(NamedTuple):
    """A call or an await. number: from 1."""

    number: int
    module: str
    function: str
    line: int
    text: str

    @property
    def is_await(self) -> bool:
        """Whether it is an await."""
        return self.text.startswith("await ")


class Control:
    """The shared file: the armed site, then for each site whether it was passed."""

    def __init__(self, path: Path, size: int = 1 << 14) -> None:
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)

    @property
    def armed(self) -> int:
        """The site that is to raise; 0 once it has."""
        return int.from_bytes(self._shared[:4], "little")

    @armed.setter
    def armed(self, number: int) -> None:
        self._shared[:4] = number.to_bytes(4, "little")

    def passed(self) -> set[int]:
        """Return the sites that were passed."""
        return {number for number, byte in enumerate(self._shared[4:]) if byte}

    def forget(self) -> None:
        """Begin to note anew."""
        self._shared[4:] = bytes(len(self._shared) - 4)

    def at(self, number: int) -> None:
        """Be at a site: raise if it is the armed one."""
        self._shared[4 + number] = 1
        if self.armed == number:
            self.armed = 0
            raise PlantedError(f"planted at site {number}")


class _Planter(ast.NodeTransformer):
    """Puts a site before each call and each await inside a function."""

    def __init__(self, module: str, first: int) -> None:
        self.sites: list[Site] = []
        self._module = module
        self._next = first
        self._functions: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._inside(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return self._planted(node)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self._planted(node)

    def _inside(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._functions.append(node.name)
        node.body = [self.visit(each) for each in node.body]
        self._functions.pop()
        return node

    def _planted(self, node: ast.Call | ast.Await) -> ast.AST:
        text = ast.unparse(node)
        self.generic_visit(node)
        if not self._functions:
            return node
        number, self._next = self._next, self._next + 1
        self.sites.append(Site(number, self._module, self._functions[-1], node.lineno, text))
        call = ast.Call(ast.Name(_NAME, ast.Load()), [ast.Constant(number)], [])
        pair = ast.Tuple([call, node], ast.Load())
        planted = ast.Subscript(pair, ast.Constant(1), ast.Load())
        return ast.fix_missing_locations(ast.copy_location(planted, node))


def _rewritten() -> Iterator[tuple[str, str, ast.Module, list[Site]]]:
    """Yield the name, the file, the rewritten tree and the sites of each module."""
    first = 1
    for module in MODULES:
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_bytes())
        planter = _Planter(module, first)
        tree = planter.visit(tree)
        first += len(planter.sites)
        yield module, spec.origin, tree, planter.sites


def sites() -> list[Site]:
    """Return all sites, in order."""
    return [site for _, _, _, found in _rewritten() for site in found]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules in their rewritten form."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._code: dict[str, CodeType] = {
            module: compile(tree, origin, "exec") for module, origin, tree, _ in _rewritten()
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._code:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=self._code[fullname].co_filename)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[_NAME] = self._control.at
        exec(self._code[module.__name__], vars(module))
        hurried = HURRIED.get(module.__name__.removeprefix("vdifs.mount."), {})
        assert hurried.keys() <= vars(module).keys()
        vars(module).update(hurried)


def main() -> int:
    control = Control(Path(sys.argv.pop(1)))
    finder = _Finder(control)  # looks for the modules in the ordinary way, so before it takes part itself
    assert not [module for module in MODULES if module in sys.modules], "find_spec imports none of them"
    sys.meta_path.insert(0, finder)
    from tests.mount.driver import main as drive

    return drive()


if __name__ == "__main__":
    sys.exit(main())
