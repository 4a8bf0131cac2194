"""What `vdifs status` says in words, of a report and of each open file. Pure: values in, text out."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vdifs.cli.render.text import age_text, kept_text
from vdifs.report.status import OpenFile
from vdifs.wording import counted, size_text

__all__ = ["Rates", "Reading", "duration_text", "file_line", "report_fields"]

_WINDOW_S = 5.0
_TOLD = 50


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the reader of an open file is. rate: bytes a second, None if not known yet."""

    file: OpenFile
    rate: float | None = None

    @property
    def percent(self) -> float:
        """How much of the file it has passed."""
        return 100 * self.file.position / self.file.size if self.file.size else 100.0

    @property
    def seconds_left(self) -> float | None:
        """How long it will need at this rate, None if that is not known."""
        return (self.file.size - self.file.position) / self.rate if self.rate else None


class Rates:
    """How fast each open file is read: over the last seconds, and at first since it was opened."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, float], deque[tuple[float, int]]] = {}

    def update(self, files: Iterable[OpenFile], now: float) -> list[Reading]:
        """Return how far the readers of the files are; now: seconds of a clock that is never set."""
        found, samples = [], dict[tuple[str, float], deque[tuple[float, int]]]()
        for file in files:
            key = file.path, file.opened
            seen = samples[key] = self._samples.get(key) or deque()
            seen.append((now, file.bytes_read))
            while len(seen) > 2 and now - seen[1][0] >= _WINDOW_S:
                seen.popleft()
            since, before = seen[0]
            rate = (file.bytes_read - before) / (now - since) if now > since else None
            found.append(Reading(file, rate))
        self._samples = samples
        return found


def report_fields(report: Mapping[str, Any], now: float) -> Iterator[tuple[str, object]]:
    """Yield the lines for a report: a name and a value. now: seconds since 1970."""
    images, counters = report["images"], report["counters"]
    served = sum(image["served"] for image in images)
    yield "source", report["source"]
    yield "mountpoint", report["mountpoint"]
    yield "mounted", f"{age_text(now - report['started'])} ago, process {report['pid']}, vdifs {report['version']}"
    refused = f", {len(images) - served} refused" if served < len(images) else ""
    unknown = f", {report['images_to_open']} not opened yet" if report.get("images_to_open") else ""
    yield "images", f"{served} served{refused}{unknown}"
    if report["permissions_overridden"]:
        yield "permissions", "replaced by --uid, --gid or --umask"
    failed = f", {counters['failed_reads']} failed" if counters["failed_reads"] else ""
    asked = counted(counters["reads"], "request", "requests")
    opened = counted(counters["opens"], "file", "files")
    yield "read", f"{size_text(counters['bytes_read'])} in {asked}{failed}; {opened} opened"
    problems = report["problems"]
    for problem in problems[:_TOLD]:
        kept = [each["name"] for each in problem.get("keeps", ())]
        word = "note" if problem.get("severity") == "note" else "problem"
        yield word, problem["message"] + kept_text(problem.get("name", ""), kept)
    if len(problems) > _TOLD:
        yield "problem", f"{len(problems) - _TOLD} more: see them all with --output json"
    for file in OpenFile.all_in(report):
        yield "open file", file_line(Reading(file))


def file_line(reading: Reading) -> str:
    """Return what is known of one open file."""
    file = reading.file
    rate = "" if reading.rate is None else f", {size_text(round(reading.rate))}/s"
    left = "" if not reading.seconds_left else f", {duration_text(reading.seconds_left)} left"
    return f"{file.path}: {reading.percent:.1f} %, {size_text(file.position)} of {size_text(file.size)}{rate}{left}"


def duration_text(seconds: float) -> str:
    """Return a duration as `1:02:03`, or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
