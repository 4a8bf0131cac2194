"""What a disk held, event by event; and whether what a reader saw can have been one of these states.

A state says of each page of 4 KiB which generation wrote it. While an event is under way, pages change one after the
other in the order of the disk. So an open file may show

    before  |  after up to some page, before from there on  |  after

and nothing else; never a page of a state that had passed well before the file was opened.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.support.stamps import BLOCK_SIZE, MAGIC, STAMP

__all__ = ["PAGE", "History", "Pages", "State", "pages_of"]

PAGE = 4096
State = tuple[int, ...]
Pages = tuple[int, ...]
_WRONG = -1
_PER_PAGE = PAGE // STAMP.size


def pages_of(data: bytes, start: int) -> Pages:
    """Return the generation of each page of `data`, whole pages that stand at `start`.

    0: zeros. -1: anything else than one generation's stamps of just these blocks.
    """
    stamps = np.frombuffer(data, dtype=[("head", ">u8"), ("block", ">u8")])
    head = stamps["head"].reshape(-1, _PER_PAGE)
    first = start // BLOCK_SIZE
    blocks = first + np.arange(len(stamps), dtype=np.uint64) * STAMP.size // BLOCK_SIZE
    placed = (stamps["block"] == blocks).reshape(-1, _PER_PAGE).all(axis=1)
    one = (head == head[:, :1]).all(axis=1)
    marked = head[:, 0] >> 48 == int.from_bytes(MAGIC, "big")
    zero = ~np.frombuffer(data, np.uint8).reshape(-1, PAGE).any(axis=1)
    generation = (head[:, 0] >> 32 & 0xFFFF).astype(np.int64)
    found = np.where(zero, 0, np.where(placed & one & marked, generation, _WRONG))
    return tuple(found.tolist())


@dataclass(slots=True)
class History:
    """The states of one disk, oldest first. began, ended: when the event was under way that led to a state."""

    states: list[State] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def add(self, state: State, began: float, ended: float) -> None:
        """Note an event that made `state`; one that left it as it was is none."""
        if self.states and self.states[-1] == state:
            return
        self.states.append(state)
        self.began.append(began)
        self.ended.append(ended)

    def fault(self, pages: Pages, opened: float, closed: float, late: float, *, whole: bool = False) -> str | None:
        """Return None if a file opened and closed then may have shown these pages, from the first on; else why not.

        whole: the file ended there. late: so many seconds after an event the state before it may still be given.
        """
        if _WRONG in pages:
            return f"page {pages.index(_WRONG)} is torn or misplaced"
        times = list(self._times(pages, whole=whole))
        if not times:
            return f"of no single state: {_shown(pages)}"
        if any(began <= closed and opened <= ended + late for began, ended in times):
            return None
        passed = [ended for _, ended in times if ended + late < opened]
        if not passed:
            return f"of a state that came later: {_shown(pages)}"
        return f"of a state that had passed {opened - max(passed):.1f} s before the file was opened: {_shown(pages)}"

    def _times(self, pages: Pages, *, whole: bool) -> Iterator[tuple[float, float]]:
        """Yield when the disk may have shown these pages: from the first moment on until the second."""
        for index, state in enumerate(self.states):
            if whole and len(state) != len(pages):
                continue
            if state[: len(pages)] == pages:
                last = index + 1 == len(self.states)
                yield self.began[index], float("inf") if last else self.ended[index + 1]
            elif index and _is_between(self.states[index - 1], state, pages):
                yield self.began[index], self.ended[index]


def _is_between(before: State, after: State, pages: Pages) -> bool:
    """Whether the pages are those of `after` up to some place, and those of `before` from there on."""
    count = len(pages)
    if count > min(len(before), len(after)):
        return False
    cut = next((at for at in range(count) if pages[at] != after[at]), count)
    return pages[cut:] == before[cut:count]


def _shown(pages: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for page in pages:
        if runs and runs[-1][0] == page:
            runs[-1][1] += 1
        else:
            runs.append([page, 1])
    return ", ".join(f"{count} pages of generation {page}" for page, count in runs[:8]) + ("..." if runs[8:] else "")
