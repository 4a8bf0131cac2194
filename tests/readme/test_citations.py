"""What the code, the tests and the pages cite: each cited page is there, and each cited section is a heading of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("vdifs", "tests", "scripts", "docs")
SUFFIXES = ("", ".py", ".md")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml")
ABSENT = [f"{name}.md" for name in ("SPEC", "DESIGN", "RELIABILITY", "QCOW2", "STYLE", "FORMATS")]
"""Pages that this folder does not have: a reader could not look them up."""

_CITATION = re.compile(
    r"""\b(?P<page>(?:docs/)?[\w-]+\.md)\b`?
        (?P<numbers>(?:,?\s(?:and\s)?\d+(?:\.\d+)*\b)*)
        (?:,\s'(?P<title>[^'\n]+)')?""",
    re.VERBOSE,
)
_FILE = re.compile(r"`((?:tests|scripts|vdifs|docs)/[\w./-]*|[a-z]+/[\w/]+\.py)`")
_HEADING = re.compile(r"^#+ (?:(?P<number>\d+(?:\.\d+)*) )?(?P<title>.*)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


class Citation(NamedTuple):
    """One place where a page is cited, with its sections' numbers, or the title of one."""

    where: str
    page: str
    numbers: list[str]
    title: str | None


def citations_in(text: str, where: str) -> Iterator[Citation]:
    for found in _CITATION.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Citation(f"{where}:{line}", found["page"], re.findall(r"[\d.]*\d", found["numbers"]), found["title"])


def all_citations() -> list[Citation]:
    files = [ROOT / name for name in PAGES]
    files += [file for place in PLACES for file in (ROOT / place).rglob("*") if file.suffix in SUFFIXES]
    of_interest = [file for file in files if file.is_file() and file != Path(__file__)]
    return [each for file in of_interest for each in citations_in(file.read_text(), str(file.relative_to(ROOT)))]


def headings(page: str) -> tuple[set[str], set[str]]:
    """Return the numbers and the titles of a page's sections."""
    found = list(_HEADING.finditer(_FENCED.sub("", (ROOT / page).read_text())))
    return {each["number"] for each in found if each["number"]}, {each["title"] for each in found}


def missing(citation: Citation) -> str | None:
    """Return what a citation names and a reader does not find, None if all is there."""
    if not (ROOT / citation.page).exists():
        return f"{citation.where}: {citation.page} is not there"
    numbers, titles = headings(citation.page)
    if absent := set(citation.numbers) - numbers:
        return f"{citation.where}: {citation.page} has no section {', '.join(sorted(absent))}"
    if citation.title is not None and citation.title not in titles:
        return f"{citation.where}: {citation.page} has no section '{citation.title}'"
    return None


def test_each_citation_can_be_looked_up() -> None:
    cited = [each for each in all_citations() if each.page.startswith("docs/")]
    assert len(cited) > 30
    assert [found for each in cited if (found := missing(each))] == []
    titled = [each for each in all_citations() if each.page in PAGES and each.title is not None]
    assert titled != []
    assert [found for each in titled if (found := missing(each))] == []


def test_no_page_is_cited_that_a_reader_does_not_have() -> None:
    assert [each.where for each in all_citations() if each.page in ABSENT] == []


def absent_files(page: Path) -> list[str]:
    """Return the files and folders of this tree that a page names and that are not there."""
    named = [name for name in _FILE.findall(page.read_text()) if "NAME" not in name]
    return [name for name in named if not (ROOT / name).exists() and not (ROOT / "vdifs" / name).exists()]


@pytest.mark.parametrize("page", [*PAGES[:3], *sorted(file.name for file in (ROOT / "docs").glob("*.md"))])
def test_the_modules_and_folders_that_a_page_names_are_there(page: str) -> None:
    assert absent_files(ROOT / (page if page in PAGES else f"docs/{page}")) == []


def test_a_module_that_is_not_there_is_found(tmp_path: Path) -> None:
    (page := tmp_path / "page.md").write_text(
        "`tests/rules`, `chain/policy.py`, `tests/formats/NAME/`, `chain/gone.py`, `tests/gone/`"
    )
    assert absent_files(page) == ["chain/gone.py", "tests/gone/"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("(docs/specification.md 5.2)", None),
        ("docs/specification.md 5.2 and 5.3: both", None),
        ("`docs/specification.md`\n2.1, the names", None),
        ("docs/qcow2.md, 'Header': its table", None),
        ("README.md, 'Stricter than QEMU'", None),
        ("docs/gone.md 1", "x:1: docs/gone.md is not there"),
        ("\ndocs/specification.md 2.99", "x:2: docs/specification.md has no section 2.99"),
        ("docs/specification.md 5.2, 5.77", "x:1: docs/specification.md has no section 5.77"),
        ("docs/qcow2.md, 'Footer'", "x:1: docs/qcow2.md has no section 'Footer'"),
    ],
)
def test_what_is_no_section_is_found(text: str, wrong: str | None) -> None:
    (citation,) = citations_in(text, "x")
    assert missing(citation) == wrong


def test_a_citation_ends_where_its_numbers_do() -> None:
    (citation,) = citations_in("(docs/specification.md 5.9: 1 KiB per image)", "x")
    assert citation.numbers == ["5.9"]
    (citation,) = citations_in("docs/specification.md 5.2. Then 2 more", "x")
    assert citation.numbers == ["5.2"]
