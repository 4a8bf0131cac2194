"""Stand-ins for what lies below the mount: a catalog of names and an image of bytes, without a single file."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Literal, cast

from vdifs.catalog.catalog import Entry
from vdifs.catalog.described import Described
from vdifs.catalog.left_out import LeftOut
from vdifs.chain.access import Access
from vdifs.errors import ChainError, SourceChangedError, VdifsError
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.sources import Source
from vdifs.output.image import Image
from vdifs.storage.fingerprint import Fingerprint


def entry(path: str, backing: str | None = None, state: int = 0, problem: VdifsError | None = None) -> Entry:
    """An image in that state of its file: `.raw` is raw, all else qcow2."""
    kind: Literal["qcow2", "raw"] = "raw" if path.endswith(".raw") and backing is None else "qcow2"
    number = sum(path.encode("utf-8", "surrogateescape")) + 1
    return Entry(
        path=path,
        format=kind,
        fingerprint=Fingerprint(1, number, 4096, 1_000 + state, 1_000 + state),
        uid=0,
        gid=0,
        permissions=(),
        virtual_size=1 << 20,
        backing_path=backing,
        problem=problem,
    )


class FakeCatalog:
    """Images by name, and what each is on. `scan` shows what was changed since the last."""

    def __init__(self, *entries: Entry) -> None:
        self.next = {each.path: each for each in entries}
        self.entries: Mapping[str, Entry] = dict(self.next)
        self.left_out: tuple[LeftOut, ...] = ()
        self.troubles: Mapping[str, VdifsError] = {}
        self.shut: frozenset[str] = frozenset()
        self.scans = 0

    def scan(self) -> bool:
        self.scans += 1
        changed = self.entries != self.next
        self.entries = dict(self.next)
        return changed

    def put(self, each: Entry) -> None:
        self.next[each.path] = each

    def remove(self, path: str) -> None:
        del self.next[path]

    def change(self, path: str) -> None:
        old = self.next[path]
        self.next[path] = replace(old, fingerprint=old.fingerprint._replace(mtime_ns=old.fingerprint.mtime_ns + 1))

    def chain(self, path: str) -> tuple[Entry, ...]:
        found: list[Entry] = []
        at: str | None = path
        while at is not None:
            if at not in self.entries:
                raise ChainError(f"{at}: is missing")
            if (problem := self.entries[at].problem) is not None:
                raise problem
            found.append(self.entries[at])
            at = self.entries[at].backing_path
        return tuple(found)

    def overlays(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(each for each in self.entries if path in self._ancestors(each)))

    def generation(self, path: str) -> bytes:
        return self.described(path).generation

    def described(self, path: str) -> Described:
        try:
            chain = self.chain(path)
        except VdifsError as error:
            entry = self.entries.get(path)
            return Described((entry,) if entry else (), Access(0, 0, 0), str(error).encode(), error)
        return Described(chain, Access(0o444, 0, 0), repr([each.fingerprint for each in chain]).encode())

    def folder_access(self, places: Iterable[tuple[str, int]]) -> Access:
        return Access(0o555, 0, 0)

    def status_access(self) -> Access:
        return Access(0o444, 0, 0)

    def _ancestors(self, path: str) -> list[str]:
        try:
            return [each.path for each in self.chain(path)[1:]]
        except VdifsError:
            return []


@dataclass(frozen=True)
class _File:
    fd: int = -1


@dataclass(frozen=True)
class _Member:
    file: _File = _File()


@dataclass
class _Chain:
    members: list[_Member]


@dataclass(eq=False)
class FakeImage:
    """An image of the bytes `contents`. hang: if given, reading waits for it."""

    contents: bytes = b"guest data"
    depth: int = 1
    hang: Event | None = None
    closed: bool = False
    changed: bool = False
    allocated: int = 4
    virtual_size: int = 512
    etag: str = "e" * 64
    mtime_ns: int = 7
    chain: _Chain = field(default_factory=lambda: _Chain([_Member()]))
    tables: Mapping[Hashable, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.contents)

    @property
    def stored(self) -> int:
        return len(self.contents)

    def read_at(self, offset: int, length: int, *, wait: bool = True) -> bytes:
        del wait
        if self.hang is not None:
            self.hang.wait(30)
        assert not self.closed, "read after close"
        self.check_unchanged()
        return self.contents[offset : offset + length]

    def check_unchanged(self) -> None:
        if self.changed:
            raise SourceChangedError("the fake changed")

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True

    def as_image(self) -> Image:
        return cast("Image", self)


class FakeOpener:
    """Opens fake images and remembers them. error: raised instead. hang: if given, opening waits for it."""

    def __init__(self) -> None:
        self.opened: list[FakeImage] = []
        self.error: Exception | None = None
        self.hang: Event | None = None
        self.depth = 1

    def __call__(self, file: ImageFile, source: Source) -> Image:
        del file, source
        if self.hang is not None:
            self.hang.wait(30)
        if self.error is not None:
            raise self.error
        self.opened.append(FakeImage(depth=self.depth))
        return self.opened[-1].as_image()
