"""The errno boundary: nothing but FUSEError leaves a handler, as anything else ends the mount."""

import errno
import gc
import inspect
import weakref
from contextlib import suppress
from typing import Any

import pyfuse3
import pytest

from tests.conftest import ExpectWarning
from vdifs.errors import InUseError, VdifsError
from vdifs.mount.fuse.boundary import answering_errno
from vdifs.mount.fuse.operations import Operations
from vdifs.mount.serving.rate_limited_log import RateLimitedLog


def handlers() -> list[str]:
    return [name for name, member in vars(Operations).items() if inspect.iscoroutinefunction(member)]


class Broken:
    """Stands for both the namespace and the files: whatever is asked of it fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def broken_operations(error: Exception) -> Operations:
    stub: Any = Broken(error)
    return Operations(stub, stub, RateLimitedLog())


def test_the_handlers_are_those_of_a_read_only_file_system() -> None:
    assert set(handlers()) == {
        "lookup", "forget", "getattr", "opendir", "readdir", "releasedir", "open", "release", "getxattr",
        "listxattr", "statfs",
    }  # fmt: skip


@pytest.mark.parametrize("handler", handlers())
async def test_a_bug_in_any_handler_costs_one_eio(handler: str, expect_warning: ExpectWarning) -> None:
    expect_warning(f"{handler} failed")
    operations = broken_operations(ZeroDivisionError("planted"))
    count = len(inspect.signature(getattr(Operations, handler)).parameters) - 1
    if handler == "forget":
        await operations.forget([(1, 1)])  # has no answer, so no error either
        return
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await getattr(operations, handler)(*[1] * count)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), OSError(errno.EBADF, "bad"), KeyError("x")])
async def test_any_exception_becomes_eio(error: Exception, expect_warning: ExpectWarning) -> None:
    expect_warning("statfs failed")
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await broken_operations(error).statfs(pyfuse3.RequestContext())
    assert caught.value.errno == errno.EIO


async def test_an_error_of_ours_keeps_its_errno_and_is_logged_once(expect_warning: ExpectWarning) -> None:
    expect_warning("a.qcow2: is in use")

    @answering_errno
    class Handlers:
        warnings = RateLimitedLog()

        async def read(self) -> None:
            raise InUseError("a.qcow2: is in use")

    for _ in range(3):
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await Handlers().read()
        assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE, errno.ENODATA])
async def test_what_happens_every_day_is_not_logged(code: int) -> None:
    @answering_errno
    class Handlers:
        warnings = RateLimitedLog()

        async def lookup(self) -> None:
            raise VdifsError("nothing to see", errno=code)

    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Handlers().lookup()
    assert caught.value.errno == code


def test_a_failed_request_leaves_nothing_behind() -> None:
    """What it held, megabytes perhaps, goes with it, and not when the garbage collector comes by."""

    class Held:
        pass

    class Failing:
        warnings = RateLimitedLog()

        async def read(self) -> None:
            held = Held()
            left.append(weakref.ref(held))
            raise VdifsError("played", errno=errno.ENOENT)

    left: list[weakref.ref[Held]] = []
    gc.disable()
    try:
        with suppress(pyfuse3.FUSEError):  # pytest.raises would keep the error, and all that it holds
            answering_errno(Failing)().read().send(None)
        assert left[0]() is None
    finally:
        gc.enable()
