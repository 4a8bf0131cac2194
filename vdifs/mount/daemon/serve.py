"""Serving one mount, from /dev/fuse opened to /dev/fuse closed: the parts put together, signals, readiness."""

import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from vdifs.catalog.catalog import Catalog
from vdifs.errors import Interrupted, VdifsError, printable
from vdifs.linux.inotify import watches
from vdifs.mount.daemon.announcement import announcement
from vdifs.mount.daemon.background import Ready
from vdifs.mount.daemon.confinement import confine
from vdifs.mount.daemon.logs import LogThread
from vdifs.mount.daemon.remedies import unmounting
from vdifs.mount.daemon.signals import noted, wanted
from vdifs.mount.daemon.supervisor import Supervisor
from vdifs.mount.fuse.fusectl import set_request_limit
from vdifs.mount.fuse.operations import Operations
from vdifs.mount.fuse.page_cache import PageCache
from vdifs.mount.fuse.readahead import Readahead
from vdifs.mount.fuse.reads import Reads
from vdifs.mount.fuse.session import MAX_TASKS, answer_requests, end_session, open_session
from vdifs.mount.serving.assembly import assemble
from vdifs.mount.serving.failures import Failures
from vdifs.mount.serving.inspection import Inspection
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.view.options import MountOptions

__all__ = ["serve"]

_SWITCH_S = 0.001
"""After which a thread hands over the interpreter; a read needs it several times, whatever else is at work."""
FEW_IMAGES = 256
FEW_IMAGES_S = 0.1
"""So long a mount of few images is not ready yet, that what opening shows is told with it."""
GRACE_S = 1.0
PATIENCE_S = 10.0

log = logging.getLogger("vdifs.mount")


def serve(options: MountOptions, supervisor: Supervisor, ready: Ready, log_thread: LogThread) -> None:
    """Mount, call `ready` once the mount answers, and return when it is unmounted or a signal says so.

    log_thread: the one thread there is besides, which is stopped while the process is confined. Raises VdifsError where
    the mount cannot be made.
    """
    watches.start()  # while this process may
    catalog = Catalog(
        options.source,
        trusted=options.trusted,
        include=options.include,
        exclude=options.exclude,
        skip=[options.mountpoint],
        live=options.live,
    )
    try:
        log.info("%s: searching", printable(options.source))
        catalog.scan()
        catalog.check_images()
        gc.freeze()  # what is here now stays: looking through it again and again would only stop the event loop
        with noted() as signals:
            trio.run(_serve, options, catalog, supervisor, ready, log_thread, signals)
    except ExceptionGroup as group:
        raise _first(group) from group
    finally:
        catalog.close()


async def _serve(
    options: MountOptions,
    catalog: Catalog,
    supervisor: Supervisor,
    ready: Ready,
    log_thread: LogThread,
    signals_before: list[int],
) -> None:
    sys.setswitchinterval(_SWITCH_S)
    pages = PageCache()
    serving = assemble(catalog, options, pages)
    operations = Operations(serving.namespace, serving.files, serving.namespace.warnings)
    with trio.open_signal_receiver(*wanted()) as signals, open_session(operations, options) as session:
        supervisor.watch(session.mount)
        if signals_before:
            raise Interrupted(signals_before[0])
        readahead = Readahead(session.mount)
        set_request_limit(session.mount, MAX_TASKS)
        pages.attach(session.plane)
        serving.published.attach(session.plane)
        with log_thread.paused():
            serving.status.confinement = confine(_sources(options, catalog))
        log.info("confined: %s", serving.status.confinement)
        session.plane.start()
        readiness = _Readiness(catalog, serving.namespace.failures, serving.inspection, options.mountpoint, ready)
        async with trio.open_nursery() as nursery:
            serving.tasks.start(nursery)
            serving.inspection.wake()
            nursery.start_soon(_end_on_signal, signals, nursery.cancel_scope)
            nursery.start_soon(_miss_supervisor, supervisor, options)
            nursery.start_soon(_report, options, serving.namespace, readahead, readiness)
            reads = Reads(session.plane, serving.files, serving.namespace.warnings)
            nursery.start_soon(_answer_reads, reads)
            await answer_requests()
            await reads.settled()
            nursery.cancel_scope.cancel()
    log.info("%s: unmounted", printable(options.mountpoint))


async def _answer_reads(reads: Reads) -> None:
    """Answer reads, and once there can be none any more, have the session end."""
    await reads.answer()
    end_session()


async def _end_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """End the mount on a signal; requests that are under way have a little time to be answered."""
    async for number in signals:
        log.info("%s: ending the mount", signal.Signals(number).name)
        end_session()
        await trio.sleep(GRACE_S)
        scope.cancel()


async def _report(options: MountOptions, namespace: Namespace, readahead: Readahead, readiness: "_Readiness") -> None:
    """Say that the mount is ready, once it answers."""
    name = printable(options.mountpoint)
    try:
        with trio.fail_after(PATIENCE_S):
            await trio.to_thread.run_sync(os.stat, options.mountpoint, abandon_on_cancel=True)
    except (OSError, trio.TooSlowError) as error:
        what, remedy = f"mounted, but it does not answer: {error}", "look into its log, and mount again"
        raise VdifsError(what, where=options.mountpoint, remedy=remedy, errno=errno.EIO) from error
    readahead.set(options.readahead)
    log.info("%s: mounted at %s: %d images", printable(options.source), name, len(namespace.tree.entries))
    if options.overrides_permissions:
        log.warning("%s: --uid, --gid or --umask replace the permissions of the sources", name)
    await readiness.tell()


@dataclass(frozen=True, slots=True)
class _Readiness:
    """What is told when mounting: that the mount is ready, and what it does not serve as far as is known at once."""

    catalog: Catalog
    failures: Failures
    inspection: Inspection
    mountpoint: str
    call: Ready

    async def tell(self) -> None:
        """Tell it, of few images after a moment, in which opening may show something."""
        if len(self.catalog.entries) <= FEW_IMAGES:
            with trio.move_on_after(FEW_IMAGES_S):
                await self.inspection.settled()
        self.inspection.mind_requests()
        line = announcement(self.mountpoint, self.catalog, {file.path for file, _ in self.failures.items()})
        if line:
            log.info("%s", line)
        self.call(line)


def _sources(options: MountOptions, catalog: Catalog) -> list[str]:
    """Return the folders beneath which the catalog opens files."""
    linked = [] if os.path.isdir(options.source) else [os.path.dirname(os.path.realpath(options.source))]
    return [catalog.policy.root, *linked, *options.trusted]


async def _miss_supervisor(supervisor: Supervisor, options: MountOptions) -> None:
    """Say so if the supervisor ends while the mount is there: nothing would take that away any more."""
    if supervisor.pidfd is None:
        return
    await trio.lowlevel.wait_readable(supervisor.pidfd)
    remedy = f"once the daemon ends, take its mount away with '{unmounting(options.mountpoint)}'"
    log.warning("%s: the supervisor was killed: %s", printable(options.mountpoint), remedy)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of ours in a group, or the first of whatever there is."""
    ours = group.subgroup(VdifsError)
    error: BaseException = ours or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
