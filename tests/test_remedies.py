"""Every error says what to do: it has a remedy of its own where it is made, or its class has one.

The source is read, not run: an error that no test meets is found as well.
"""

import ast
import builtins
import importlib
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import vdifs
from vdifs.errors import FormatError, StorageError, UnsupportedError, VdifsError

PACKAGE = Path(vdifs.__file__).parent
SOURCES = {str(path.relative_to(PACKAGE.parent)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


class Walk:
    """What the sources say of errors. remedied: by the name of each class of errors, whether it has a remedy."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.trees = {name: ast.parse(source) for name, source in sources.items()}
        self.remedied = {"VdifsError": False}
        self.modules = {"VdifsError": "vdifs/errors.py"}
        named = [node for _, node in self.nodes() if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        self.names = {node.name for node in named}
        while self._found_more():
            pass

    def nodes(self) -> Iterator[tuple[str, ast.AST]]:
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                yield name, node

    def _found_more(self) -> bool:
        before = len(self.remedied)
        for name, node in self.nodes():
            if isinstance(node, ast.ClassDef) and node.name not in self.remedied:
                bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in self.remedied]
                if bases:
                    own = any(isinstance(line, ast.Assign) and _is_remedy(line) for line in node.body)
                    self.remedied[node.name] = own or any(self.remedied[base] for base in bases)
                    self.modules[node.name] = name
        return len(self.remedied) > before

    def kind(self, node: ast.expr) -> str | None:
        """Return the name of the class of errors that an expression is, None if it is something else."""
        match node:
            case ast.Name(id=name) if name in self.remedied:
                return name
            case ast.Attribute(value=ast.Name(id="vdifs" | "errors"), attr=name) if name in self.remedied:
                return name
            case _:
                return None

    def made(self) -> Iterator[tuple[str, ast.Call, str]]:
        """Yield each construction of an error: where it stands, and of which class."""
        for name, node in self.nodes():
            if isinstance(node, ast.Call) and (kind := self.kind(node.func)) is not None:
                yield f"{name}:{node.lineno}", node, kind

    def without_remedy(self) -> list[str]:
        """Return where errors are made that do not say what to do."""
        return [where for where, call, kind in self.made() if not self.remedied[kind] and not _has_remedy(call)]

    def unseen(self) -> list[str]:
        """Return where an error may be made of a class that `made` does not see: one that a variable holds."""
        return [f"{name}:{getattr(node, 'lineno', 0)}" for name, node in self.nodes() if self._is_unseen(node)]

    def _is_unseen(self, node: ast.AST) -> bool:
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
                return not (name in self.names or isinstance(getattr(builtins, name, None), type))
            case ast.Call(func=ast.Call(func=ast.Name(id="type"))):
                return True
            case ast.Assign(value=value):
                return self.kind(value) is not None
            case ast.IfExp(body=body, orelse=other):
                return self.kind(body) is not None or self.kind(other) is not None
            case _:
                return False


def _is_remedy(line: ast.Assign) -> bool:
    names = [target.id for target in line.targets if isinstance(target, ast.Name)]
    return names == ["remedy"] and isinstance(line.value, ast.Constant) and bool(line.value.value)


def _has_remedy(call: ast.Call) -> bool:
    empty = (None, "")
    return any(
        keyword.arg == "remedy" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value in empty)
        for keyword in call.keywords
    )


WALK = Walk(SOURCES)


def test_every_error_says_what_to_do() -> None:
    assert len(list(WALK.made())) > 150, "the walk sees the sources"
    assert WALK.without_remedy() == []


def test_every_error_is_made_where_the_walk_sees_it() -> None:
    assert WALK.unseen() == []


ERRORS = SOURCES["vdifs/errors.py"]


@pytest.mark.parametrize(
    "planted",
    [
        "raise VdifsError('odd')",
        "raise vdifs.VdifsError('odd', errno=5)",
        "raise UsageError(f'{name} is odd', where=name)",
        "found = [ChainError('odd', remedy=None)]",
        "return StorageError('odd', remedy='')",
        "class OddError(InUseError):\n    remedy = ''\n\nOddError('odd')",
        "class OddError(InUseError):\n    pass\n\nclass OdderError(OddError):\n    pass\n\nOdderError('odd')",
    ],
)
def test_an_error_without_a_remedy_is_seen(planted: str) -> None:
    assert len(Walk({"vdifs/errors.py": ERRORS, "planted.py": planted}).without_remedy()) == 1


@pytest.mark.parametrize(
    "planted",
    [
        "raise FormatError('odd')",
        "raise UnsupportedError('odd', where=name)",
        "raise VdifsError('odd', remedy='mend it')",
        "raise PolicyError('odd', where=name, remedy=remedy)",
        "raise click.UsageError('odd')",
        "class OddError(InUseError):\n    remedy = 'mend it'\n\nOddError('odd')",
    ],
)
def test_an_error_with_a_remedy_is_well(planted: str) -> None:
    walk = Walk({"vdifs/errors.py": ERRORS, "planted.py": planted})
    assert (walk.without_remedy(), walk.unseen()) == ([], [])


@pytest.mark.parametrize(
    "planted",
    [
        "raise kind('odd')",
        "raise type(error)('odd')",
        "kind = StorageError",
        "raise (ChainError if wrong else UsageError)('odd', remedy='mend it')",
    ],
)
def test_an_error_whose_class_cannot_be_told_is_seen(planted: str) -> None:
    assert Walk({"vdifs/errors.py": ERRORS, "planted.py": planted}).unseen()


def classes() -> list[type[VdifsError]]:
    modules = {kind: importlib.import_module(path[:-3].replace("/", ".")) for kind, path in WALK.modules.items()}
    return [getattr(module, kind) for kind, module in modules.items()]


@pytest.mark.parametrize("kind", classes())
def test_an_error_is_the_same_after_pickling_and_in_its_place(kind: type[VdifsError]) -> None:
    error = kind("odd", where="a\nb", remedy="mend it", errno=77, about=("odd", 1))
    error.passing, error.unreachable = True, True
    assert str(error) == "a\\nb: odd: mend it"
    assert (error.finding, error.subject) == ("a\\nb: odd", ("odd", 1))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, vars(again)) == (kind, error.args, vars(error))
    placed = error.at("/vms", b"at 0x10")
    assert (type(placed), str(placed)) == (kind, "/vms: at 0x10: a\\nb: odd: mend it")
    assert (placed.what, placed.where, vars(placed)) == ("odd", "/vms: at 0x10: a\\nb", vars(error))
    assert str(error) == "a\\nb: odd: mend it", "it stays as it is, as others may hold it"


def test_an_error_has_the_remedy_of_its_class_unless_it_has_its_own() -> None:
    assert str(FormatError("odd", where="a")) == f"a: odd: {FormatError.remedy}"
    assert str(UnsupportedError("odd")) == f"odd: {UnsupportedError.remedy}"
    assert str(FormatError("odd", remedy="mend it")) == "odd: mend it"
    assert str(FormatError("odd", remedy="mend it").at("a").at("b")) == "b: a: odd: mend it"


def test_an_error_that_is_told_as_another_says_the_same() -> None:
    told = FormatError("odd", where="a", errno=1).told_as(StorageError, errno=2)
    assert (type(told), str(told), told.errno) == (StorageError, f"a: odd: {FormatError.remedy}", 2)
    assert told.told_as(UnsupportedError).errno == UnsupportedError.errno
