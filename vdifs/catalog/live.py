"""Which images are being written, found without opening every one: the lock table first, then the file.

Those that take no locks are met where a file is opened anyway, here and in `vdifs.catalog.sniff`.
"""

from collections.abc import Mapping
from dataclasses import replace

from vdifs.catalog.entry import Entry
from vdifs.chain.policy import Policy
from vdifs.errors import InUseError, VdifsError
from vdifs.linux.locks import LockTable

__all__ = ["with_writers"]


def with_writers(
    policy: Policy, locks: LockTable, entries: dict[str, Entry], before: Mapping[str, Entry]
) -> dict[str, Entry]:
    """Return `entries` with those that are being written marked as live, InUseError being their problem.

    before: the result of the last time. An image that was live and is stays as it was then, its time stamps too: as
    no reader is served its bytes, each of its writes need not be a change of the source.
    """
    inodes = locks.written_inodes()
    if not inodes and not any(entry.live for entry in entries.values()):
        return entries
    asked: dict[str, InUseError | None] = {}
    found: dict[str, Entry] = {}
    for path, entry in entries.items():
        if entry.live:
            found[path] = _as_before(entry, before.get(path))
            continue
        files = [entry.file_path] if entry.fingerprint.ino in inodes else []
        files += [each.path for each in entry.data if each.fingerprint.ino in inodes]
        for file in files:
            if file not in asked:
                asked[file] = _writer_of(policy, file)
        problem = next((error for file in files if (error := asked[file]) is not None), None)
        if problem is not None:
            found[path] = _as_before(replace(entry, live=True, problem=problem), before.get(path))
    return {**entries, **found} if found else entries


def _as_before(entry: Entry, old: Entry | None) -> Entry:
    if old is None or not old.live or old.fingerprint[:2] != entry.fingerprint[:2]:
        return entry
    kept = replace(entry, fingerprint=old.fingerprint, data=old.data if entry.data else ())
    return old if kept == old else entry


def _writer_of(policy: Policy, path: str) -> InUseError | None:
    try:
        file = policy.open(path)
    except VdifsError:
        return None  # which its entry tells
    try:
        file.check_no_writer()
    except InUseError as error:
        return error.bare()
    except VdifsError:
        return None
    finally:
        file.close()
    return None
