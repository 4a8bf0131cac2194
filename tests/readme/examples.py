"""The examples of the README and of the pages in docs/: fenced blocks with `<!-- run: NAME -->` before them."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
PAGES = (README, *sorted(README.parent.glob("docs/*.md")))
_EXAMPLE = re.compile(
    r"^<!-- run: (?P<name>\S+) -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FENCE = re.compile(r"^```(?!text$)\w+$", re.MULTILINE)


def text() -> str:
    """Return all pages, the README first."""
    return "\n".join(page.read_text() for page in PAGES)


def examples() -> dict[str, tuple[str, str]]:
    """Return language and text of each example by name."""
    return {found["name"]: (found["language"], found["text"]) for found in _EXAMPLE.finditer(text())}


def fenced_blocks() -> int:
    """Return how many fenced blocks of code there are, examples or not."""
    return len(_FENCE.findall(text()))
