"""Ways in which a folder is taken away from under a mount, each undone at its end."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.mount.mounting import as_user, eventually
from vdifs.linux.mountinfo import topmost

__all__ = ["NOT_FOR_ROOT", "REMOVALS", "WAYS", "Behind", "Way", "behind_a_mount", "behind_a_server"]

Way = Callable[[Path], AbstractContextManager[None]]
"""Takes a folder away while it is entered."""
Behind = Callable[[Path, int | None], AbstractContextManager[Callable[[], object]]]
"""Has a folder lie on another file system, with what it holds; what is given takes that away. For a user's mount."""


def _hidden(folder: Path, name: str) -> Path:
    """Return a place beside the folder that no search looks into."""
    return folder.with_name(f".{folder.name}.{name}")


@contextmanager
def renamed_away(folder: Path) -> Iterator[None]:
    away = _hidden(folder, "away")
    folder.rename(away)
    yield
    away.rename(folder)


@contextmanager
def renamed_and_made_anew(folder: Path) -> Iterator[None]:
    with renamed_away(folder):
        folder.mkdir()
        yield
        folder.rmdir()


@contextmanager
def renamed_and_filled_anew(folder: Path) -> Iterator[None]:
    with renamed_away(folder):
        shutil.copytree(_hidden(folder, "away"), folder, symlinks=True)
        yield
        shutil.rmtree(folder)


@contextmanager
def removed_and_made_anew(folder: Path) -> Iterator[None]:
    """As `rm -rf` and mkdir; at the end another folder holds the same images, of which Landlock knows nothing."""
    kept = _hidden(folder, "kept")
    shutil.copytree(folder, kept, symlinks=True)
    shutil.rmtree(folder)
    folder.mkdir()
    yield
    folder.rmdir()
    kept.rename(folder)


@contextmanager
def replaced_by_a_file(folder: Path) -> Iterator[None]:
    with renamed_away(folder):
        folder.write_bytes(b"a file")
        yield
        folder.unlink()


@contextmanager
def linked_to_an_empty_folder(folder: Path) -> Iterator[None]:
    with renamed_away(folder):
        empty = _hidden(folder, "empty")
        empty.mkdir()
        folder.symlink_to(empty)
        yield
        folder.unlink()
        empty.rmdir()


@contextmanager
def linked_to_nothing(folder: Path) -> Iterator[None]:
    with renamed_away(folder):
        folder.symlink_to(folder.with_name("nothing"))
        yield
        folder.unlink()


@contextmanager
def linked_to_another(folder: Path) -> Iterator[None]:
    with renamed_away(folder):
        another = _hidden(folder, "another")
        shutil.copytree(_hidden(folder, "away"), another, symlinks=True)
        folder.symlink_to(another)
        yield
        folder.unlink()
        shutil.rmtree(another)


@contextmanager
def mounted_over(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    yield
    eventually(lambda: subprocess.run(["umount", folder], capture_output=True).returncode == 0)


@contextmanager
def unreadable(folder: Path) -> Iterator[None]:
    yield from _with_mode(folder, 0o000)


@contextmanager
def without_search(folder: Path) -> Iterator[None]:
    """Its names can be read, and nothing else in it."""
    yield from _with_mode(folder, 0o444)


@contextmanager
def out_of_reach(folder: Path) -> Iterator[None]:
    yield from _with_mode(folder.parent, 0o700)


def _with_mode(folder: Path, mode: int) -> Iterator[None]:
    before = folder.stat().st_mode & 0o777
    folder.chmod(mode)
    yield
    folder.chmod(before)


WAYS: list[Way] = [
    renamed_away,
    renamed_and_made_anew,
    renamed_and_filled_anew,
    replaced_by_a_file,
    linked_to_an_empty_folder,
    linked_to_nothing,
    linked_to_another,
    mounted_over,
    unreadable,
    without_search,
    out_of_reach,
    removed_and_made_anew,
]
NOT_FOR_ROOT = {unreadable, without_search, out_of_reach}
"""What does not bother a daemon of root's."""
REMOVALS = {renamed_away, linked_to_nothing, linked_to_another, linked_to_an_empty_folder, replaced_by_a_file}
"""What is the ordinary way of removing images where it is done to a folder below SOURCE."""


@contextmanager
def behind_a_mount(folder: Path, _user: int | None) -> Iterator[Callable[[], object]]:
    """Have `folder` be a place where a disk is mounted that holds what it held; what is given takes it away."""
    folder.rename(disk := folder.with_name(f".{folder.name}.disk"))
    folder.mkdir()
    subprocess.run(["mount", "--bind", disk, folder], check=True)
    yield lambda: subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def behind_a_server(folder: Path, user: int | None) -> Iterator[Callable[[], object]]:
    """Have `folder` be served by another FUSE daemon; what is given kills that."""
    folder.rename(disk := folder.with_name(f".{folder.name}.disk"))
    folder.mkdir()
    if user is not None:
        os.chown(folder, user, user)
    with subprocess.Popen(["bindfs", "-f", "--no-allow-other", disk, folder], **as_user(user)) as server:
        eventually(lambda: topmost(str(folder)) is not None or server.poll() is not None)
        assert server.poll() is None
        try:
            yield lambda: server.send_signal(signal.SIGKILL)
        finally:
            server.kill()
            subprocess.run(["umount", "-l", folder], check=True)
