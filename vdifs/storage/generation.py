"""The state in which an open file is used: is it still that? Its time stamps tell, and a witness where these do not.

the time stamps are those that were taken             unchanged: one system call, nothing else
they are others, and a witness says that nothing      unchanged: they are taken anew; while they are so young that
was written, and they are the same behind it          a write might leave them so, the witness is asked each time
else                                                  changed, for ever
"""

import os
import time
from collections.abc import Container

from vdifs.errors import SourceChangedError
from vdifs.storage.descriptor_users import Users
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.read_errors import read_error, was_closed
from vdifs.storage.witness import Finding, Witness

__all__ = ["Generation"]

_SETTLE_TRIES = 3
_LOOKS = 10
_ANYTHING = frozenset(Finding)
_PROOFS = frozenset({Finding.NOTHING, Finding.UNSEEN})
"""What a witness says that has looked."""


class Generation:
    """One state of the file that is open as `fd`, from when it was opened on. Safe to use from several threads.

    path: as it was opened. status, fingerprint: what stat tells of that state. users: of the descriptor.
    """

    __slots__ = (
        "_asks_always", "_changed", "_fd", "_first", "_links", "_path", "_proof", "_users", "_witness",
        "fingerprint", "status",
    )  # fmt: skip

    def __init__(self, fd: int, users: Users, path: str) -> None:
        """Take the file as it is now."""
        self._fd, self._users, self._path = fd, users, path
        self._witness: Witness | None = None
        self._changed = self._asks_always = False
        self._take(os.fstat(fd), unsure=False)
        self._first = self.fingerprint

    def _take(self, status: os.stat_result, *, unsure: bool) -> None:
        """Take the time stamps. unsure: whether it takes more than these to prove that the file is unchanged."""
        self._proof = None if unsure else _stamps(status)  # one value, as other threads compare it
        self.status = status
        self.fingerprint = Fingerprint.of(status)
        self._links = status.st_nlink

    def close(self) -> None:
        """Ask the file nothing any more, as its descriptor will be closed; more than once is harmless."""
        self._fd = -1
        if self._witness is not None:
            self._witness.close()

    def watch(self, *, strict: bool = True) -> None:
        """Have the kernel tell what is written from now on; to be called before any read.

        strict: on a file system where a mapping writes without moving the time stamps, a program that has the file open
        for writing is a change.
        """
        self._witness = Witness(self._fd)
        self._asks_always = strict and self._witness.silent_writers
        if self._asks_always:
            self._proof = None
        if (earlier := self._witness.go_back()) is not None and earlier[:3] == self.fingerprint[:3]:
            self.fingerprint = self._first = earlier
            if self._proves(os.fstat(self._fd), _PROOFS):
                return
        self._begin()

    def linger(self) -> None:
        """Be watched for a moment longer than it is open: who opens it again then knows what it was before."""
        if self._witness is not None:
            self._witness.linger()

    def settle(self) -> None:
        """Wait until the time stamps are so old that the next write must give others; to be called before any read.

        Where the kernel's clock for them ticks every few milliseconds, two writes within a tick look like one. Raises
        SourceChangedError for a file that goes on changing, its metadata excepted.
        """
        stands = False
        for _ in range(_SETTLE_TRIES):
            if not (left := self.fingerprint.racy_for_ns(time.time_ns())):
                return
            time.sleep(left / 1e9)
            stands = self._proves(os.fstat(self._fd), _PROOFS)
            if not stands:
                self._begin()
        if not stands and self.fingerprint.racy_for_ns(time.time_ns()):
            what, remedy = "it kept changing while it was opened", "wait for its writer to end"
            raise SourceChangedError(what, where=self._path, remedy=remedy)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if the file is another than when it was opened, now and ever after."""
        try:
            st = os.fstat(self._fd)  # if it is closed meanwhile, perhaps that of another file
        except OSError as error:
            raise read_error(self._path, self._fd, 0, error) from error
        if (st.st_size, st.st_mtime_ns, st.st_ctime_ns) == self._proof:  # _stamps, without a call
            return  # device and inode cannot change
        with self._users:
            same = self._fd >= 0 and not self._changed and self._proves(os.fstat(self._fd), _ANYTHING)
            if self._fd < 0:  # and its witness perhaps dismissed meanwhile
                raise was_closed(self._path)
            if not same:
                self._changed, self._proof = True, None
                what, remedy = "changed since it was opened", "open it again for its new contents"
                raise SourceChangedError(what, where=self._path, remedy=remedy)

    def was(self, fingerprint: Fingerprint, *, settled: bool) -> bool:
        """Tell whether the file, which holds now what it held then, has had that fingerprint.

        settled: not so where a write might still have left it as it is.
        """
        now, first = self.fingerprint, self._first
        if fingerprint == now:
            return not (settled and self._is_racy)
        return (
            fingerprint[:3] == now[:3]
            and first.ctime_ns <= fingerprint.ctime_ns <= now.ctime_ns
            and fingerprint.mtime_ns in (first.mtime_ns, now.mtime_ns)
        )

    @property
    def stamps(self) -> tuple[int, int, int] | None:
        """Size, mtime and ctime: as long as fstat(2) says the same the file is unchanged. None if that is no proof."""
        return self._proof

    def is_open_for_writing(self) -> bool:
        """Tell whether a program is known to have the file open for writing now."""
        return (self._witness or Witness(self._fd, watching=False)).is_open_for_writing()

    @property
    def _is_racy(self) -> bool:
        return self._proof is None and not self._asks_always

    def _begin(self) -> None:
        """Take the file as it is now."""
        if self._witness is not None:
            self._witness.begin()
        self._take(os.fstat(self._fd), unsure=self._proof is None)
        self._first = self.fingerprint
        if self._witness is not None:
            self._witness.note(self.fingerprint)

    def _proves(self, st: os.stat_result, enough: Container[Finding]) -> bool:
        """Tell whether nothing was written though the file has the stat `st` now; its new time stamps are taken then.

        enough: what the witness may say.
        """
        for _ in range(_LOOKS):
            asked = time.time_ns()
            if st.st_size != self.fingerprint.size or (found := self._found()) not in enough:
                return False
            if not self._is_explained(st, found):
                return False
            again = os.fstat(self._fd)
            if _stamps(again) != _stamps(st):
                st = again
                continue
            if found is Finding.NOTHING and st.st_mtime_ns != self.fingerprint.mtime_ns and not self._saw_metadata():
                continue  # a program was between setting the time and telling of it
            self._renew(st, asked, found)
            return True
        return False

    def _found(self) -> Finding:
        return Finding.UNKNOWN if self._witness is None else self._witness.finding()

    def _saw_metadata(self) -> bool:
        return self._witness is not None and self._witness.saw_metadata()

    def _is_explained(self, st: os.stat_result, found: Finding) -> bool:
        """Tell whether what was found lets time stamps be those of `st`.

        Where nothing can be asked a ctime that moved together with the link count is a rename, link or unlink.
        """
        then = self.fingerprint
        match found:
            case Finding.NOTHING:
                return True
            case Finding.UNSEEN:
                return st.st_mtime_ns == then.mtime_ns
            case Finding.UNKNOWN:
                linked = st.st_nlink != self._links or st.st_ctime_ns == then.ctime_ns
                return st.st_mtime_ns == then.mtime_ns and linked
            case _:
                return False

    def _renew(self, st: os.stat_result, asked_ns: int, found: Finding) -> None:
        """Take new time stamps; asked_ns: when the witness was asked, which found nothing."""
        racy = found is not Finding.UNKNOWN and Fingerprint.of(st).racy_for_ns(asked_ns) > 0
        self._take(st, unsure=self._asks_always or racy)
        if self._witness is not None:
            self._witness.accept()


def _stamps(st: os.stat_result) -> tuple[int, int, int]:
    return st.st_size, st.st_mtime_ns, st.st_ctime_ns
