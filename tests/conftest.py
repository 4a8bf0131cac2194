"""What every test gets: required tools, long forms, seeds that can be set, and a log that must stay quiet.

    pytest                      the ordinary suite
    pytest --long               also the long forms: more seeds, more reads, bigger disks
    pytest --seed 17            random tests run with seed 17 alone (`--seed 1000-1299`: with that range)

A random test takes an argument `seed`. `@pytest.mark.seeds(40, long=300)` above it says how many it gets.
"""

import ctypes
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from vdifs.linux.mountinfo import topmost

pytest.register_assert_rewrite("tests.support.proofs", "tests.support.command_line")  # before any test imports them

# What nohup or a shell's `&` has made the tests ignore, the programs that they start and interrupt would ignore too.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGTSTP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)

ExpectWarning = Callable[[str], None]

_CAP_SYS_ADMIN = 21
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_SLAVE = 0x4000, 0x80000


def require_tool(name: str) -> str:
    """Return the path of the program `name`. Where it is missing the test is skipped, or fails if CI is set."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    path = shutil.which(name, path=search)
    if path is not None:
        return path
    return cannot_be_tried(f"{name} is not installed")


def cannot_be_tried(reason: str) -> NoReturn:
    """Skip the test on a user's machine; in CI, where everything must be tried, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must try it", pytrace=False)
    pytest.skip(reason)


def require_mounting() -> None:
    """Skip a test of root's that mounts something where not even root may, as in many containers."""
    effective = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if effective is None or not int(effective[1], 16) >> _CAP_SYS_ADMIN & 1:
        cannot_be_tried("nothing can be mounted here, not even by root")


def require_loop_devices() -> None:
    """Skip a test of root's that attaches loop devices where there are none."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(1 << 20)
        losetup = require_tool("losetup")
        done = subprocess.run([losetup, "--find", "--show", file.name], capture_output=True, text=True)
        if done.returncode:
            cannot_be_tried(f"no loop device can be attached here: {' '.join(done.stderr.split())}")
        subprocess.run([losetup, "--detach", done.stdout.strip()], check=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vdifs")
    group.addoption("--long", action="store_true", help="also run the long forms of the tests")
    group.addoption("--seed", type=seed_range, metavar="N[-M]", help="run random tests with these seeds alone")
    group.addoption("--qemu-source", type=Path, metavar="DIR", help="QEMU's source: also read its sample images")


def seed_range(text: str) -> range:
    """Return the seeds that `--seed N` or `--seed N-M` (both ends included) asks for."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        raise ValueError(f"{text!r} is not of the form N or N-M")
    first = int(match[1])
    return range(first, int(match[2] or first) + 1)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        leave_the_mounts_of_other_workers()
    config.addinivalue_line("markers", "long: a long form, run only with --long")
    config.addinivalue_line("markers", "seeds(count, long=count): how many seeds a random test gets")
    load_hypothesis_profile(long=config.getoption("--long"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have a worker write what coverage measured before it says that it is done: then it gets ten seconds to end."""
    if hasattr(session.config, "workerinput") and "coverage" in sys.modules:
        from coverage import Coverage

        if (measured := Coverage.current()) is not None:
            measured.stop()
            measured.save()


def leave_the_mounts_of_other_workers() -> None:
    """Have a mount namespace of one's own where that may be: a test that makes one would else copy others' mounts.

    Such copies would keep the mounts of another worker busy. In a chroot whose root is no mount point, and where root
    may not mount, nothing can be kept apart: there no test makes a namespace (`private_namespace`).
    """
    libc = ctypes.CDLL(None)
    may = topmost("/") is not None and threading.get_native_id() == os.getpid()
    if may and libc.unshare(_CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None)


def private_namespace() -> list[str]:
    """Return the words before a command that has it run in a mount namespace of its own, or skip the test."""
    if topmost("/") is None:
        cannot_be_tried("/ is no mount point, as in a plain chroot: mounts cannot be kept apart")
    words = [require_tool("unshare"), "-m", "--propagation", "private"]
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        cannot_be_tried("no mount namespace can be made here")
    return words


def load_hypothesis_profile(*, long: bool) -> None:
    """Choose the profile: the same examples on every run in CI, new ones elsewhere; no deadline, machines are slow."""
    quiet = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile(
        "ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=quiet
    )
    hypothesis.settings.register_profile("user", deadline=None, print_blob=True, suppress_health_check=quiet)
    hypothesis.settings.register_profile(
        "long", deadline=None, print_blob=True, suppress_health_check=quiet, max_examples=2_000
    )
    default = "long" if long else "ci" if os.environ.get("CI") else "user"
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", default))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    deselected = [item for item in items if item.get_closest_marker("long")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" not in metafunc.fixturenames:
        return
    seeds = chosen_seeds(metafunc)
    metafunc.parametrize("seed", seeds, ids=[f"seed{seed}" for seed in seeds])


def chosen_seeds(metafunc: pytest.Metafunc) -> Sequence[int]:
    """Return the seeds for one test: those of --seed, else as many as its marker says."""
    asked: range | None = metafunc.config.getoption("--seed")
    if asked is not None:
        return asked
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is None:
        return range(1)
    (ordinary,) = marker.args
    return range(marker.kwargs.get("long", ordinary) if metafunc.config.getoption("--long") else ordinary)


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: int) -> random.Random:
    """A generator of the test's seed, which a failure's report names."""
    request.node.add_report_section("setup", "seed", f"seed {seed} (to repeat: --seed {seed})")
    return random.Random(seed)


class WarningWatch(logging.Handler):
    """Collects what vdifs logs at WARNING or above, and knows which of it was expected."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self.expected: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.levelname} {record.name}: {record.getMessage()}")

    def expect(self, pattern: str) -> None:
        self.expected.append(pattern)

    def problems(self) -> list[str]:
        """Return a line for each message that was not expected and each expected one that never came."""
        surprises = [m for m in self.messages if not any(re.search(pattern, m) for pattern in self.expected)]
        missing = [p for p in self.expected if not any(re.search(p, message) for message in self.messages)]
        return [f"logged unexpectedly: {m}" for m in surprises] + [f"never logged: {p}" for p in missing]


@pytest.fixture(autouse=True)
def warning_watch() -> Iterator[WarningWatch]:
    """Fail the test on an unexpected warning: a log that cries wolf is not read when it matters."""
    watch = WarningWatch()
    logger = logging.getLogger("vdifs")
    logger.addHandler(watch)
    yield watch
    logger.removeHandler(watch)
    if problems := watch.problems():
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def expect_warning(warning_watch: WarningWatch) -> ExpectWarning:
    """Call it with a regular expression: a log line like that at WARNING or above is expected, and must come."""
    return warning_watch.expect
