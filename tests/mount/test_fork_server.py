"""What the fork server tells of programs, and what these find of it: a mount is to be as one that its user started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.mount.fork_server import Forked, ForkServer
from tests.mount.mounting import PATIENCE_S, ROOT


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer(sys.executable, os.environ, ROOT)
    yield made
    assert made.end(PATIENCE_S) == 0


def run(server: ForkServer, code: str, **environment: str) -> Forked:
    """Have a program run some code, by a module of the standard library that runs any."""
    return server.run("timeit", ["-n", "1", "-r", "1", f"import os, signal, sys, time; {code}"], environment)


def test_what_a_program_writes_and_how_it_ends_is_told(server: ForkServer) -> None:
    program = run(server, "print('a' * 100_000); print('b' * 100_000, file=sys.stderr)")
    out, err = program.communicate(PATIENCE_S)
    assert out.startswith("a" * 100_000 + "\n1 loop")
    assert err == "b" * 100_000 + "\n"
    assert program.returncode == 0
    failed = run(server, "raise ValueError('planted')")
    assert "ValueError: planted" in failed.communicate(PATIENCE_S)[1]
    assert failed.returncode == 1
    unknown = server.run("tests.mount.no_such_module", [], {})
    assert "No module named tests.mount.no_such_module" in unknown.communicate(PATIENCE_S)[1]
    assert unknown.returncode == 1
    assert run(server, "os.kill(os.getpid(), signal.SIGKILL)").wait(PATIENCE_S) == -signal.SIGKILL


def test_programs_run_beside_one_another(server: ForkServer) -> None:
    slow, fast = run(server, "time.sleep(600)"), run(server, "pass")
    assert fast.wait(PATIENCE_S) == 0
    assert slow.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        slow.wait(0.01)
    slow.send_signal(signal.SIGTERM)
    assert slow.wait(PATIENCE_S) == -signal.SIGTERM
    assert slow.poll() == -signal.SIGTERM


def test_a_program_has_nothing_of_the_server_s_but_what_that_imported(server: ForkServer) -> None:
    links = "[os.readlink(f'/proc/self/fd/{each}') for each in (0, 1, 2)], sorted(os.listdir('/proc/self/fd'))"
    alone = "len(os.listdir('/proc/self/task')), os.sched_getaffinity(0) and signal.getsignal(signal.SIGINT).__name__"
    code = f"import json; print(json.dumps([dict(os.environ), {links}, {alone}, 'trio' in sys.modules]))"
    out, _ = run(server, code, PLANTED="1").communicate(PATIENCE_S)
    environment, (null, *pipes), descriptors, threads, on_interrupt, has_imported = json.loads(out.splitlines()[0])
    assert environment == {"PLANTED": "1"}
    assert null == os.devnull
    assert all(pipe.startswith("pipe:") for pipe in pipes)
    assert descriptors == ["0", "1", "2", "3"], "the last is that by which they are listed"
    assert (threads, on_interrupt, has_imported) == (1, "default_int_handler", True)
