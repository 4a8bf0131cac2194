"""The examples of the README: fenced blocks with a comment `<!-- run: NAME -->` before them."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
_EXAMPLE = re.compile(
    r"^<!-- run: (?P<name>\S+) -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FENCE = re.compile(r"^```(?!text$)\w+$", re.MULTILINE)


def examples() -> dict[str, tuple[str, str]]:
    """Return language and text of each example by name."""
    return {found["name"]: (found["language"], found["text"]) for found in _EXAMPLE.finditer(README.read_text())}


def fenced_blocks() -> int:
    """Return how many fenced blocks of code there are, examples or not."""
    return len(_FENCE.findall(README.read_text()))
