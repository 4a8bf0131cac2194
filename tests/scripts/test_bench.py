"""What `scripts/bench` concludes from its samples; the measuring itself is tried by `scripts/bench --quick`."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.chains import Chains, warm
from benchmarks.contest import Bench, Contest, Outcome, Row, Sample, Target, measured
from benchmarks.processes import FailedError, daemon
from benchmarks.rows import all_rows
from benchmarks.session import measure_all, room_for
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.table import brief, growth
from tests.conftest import require_tool


def samples(*values: float) -> list[Sample]:
    return [Sample(value, 0.0) for value in values]


def row(made: Contest, target: Target | None, chains: Sequence[str] = ()) -> Row:
    return Row("row", "work", "peer", "s", target, chains, lambda _bench, _stack: made)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    require_tool("qemu-img")
    return Bench(tmp_path, Chains(tmp_path / "chains", QUICK), QUICK)


def contest(bench: Bench, calls: list[str], *, wrong: bool = False) -> Contest:
    def side(name: str, value: float) -> Sample:
        calls.append(name)
        (bench.outputs / name).write_text("what the next run must not find")
        return Sample(value, 0.0)

    def prove() -> None:
        if wrong:
            raise FailedError("Content mismatch")

    return Contest(lambda: side("ours", 1.0), lambda: side("peer", 4.0), prove, (), bench.outputs)


@pytest.mark.parametrize(
    ("target", "ours", "peer", "met"),
    [
        (Target("<=", 0.5), (9.0, 1.0, 1.0), (2.0, 2.0, 0.1), True),
        (Target("<=", 0.5), (1.1,), (2.0,), False),
        (Target(">=", 4), (4.0,), (1.0,), True),
        (Target(">=", 4), (3.9,), (1.0,), False),
        (Target("<=", 3), (2.9,), (), True),
        (Target("<=", 3), (3.1,), (), False),
        (None, (3.1,), (1.0,), None),
        (Target("<=", 3), (), (), None),
    ],
)
def test_a_target_is_met_by_the_ratio_of_medians_or_by_the_value_alone(
    bench: Bench, target: Target | None, ours: tuple[float, ...], peer: tuple[float, ...], met: bool | None
) -> None:
    outcome = Outcome(row(contest(bench, []), target), samples(*ours), samples(*peer))
    assert outcome.met is met


def test_the_sides_take_turns_and_each_begins_in_turn(bench: Bench) -> None:
    calls: list[str] = []
    outcome = measured(row(contest(bench, calls), None), bench, 3)
    assert calls == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert outcome.ratio == 0.25


def test_a_run_finds_nothing_of_the_one_before_it(bench: Bench) -> None:
    made = contest(bench, [])
    made.ours()
    made.settle()
    assert list(bench.outputs.iterdir()) == []


def test_a_wrong_answer_fails_before_anything_is_measured(bench: Bench) -> None:
    calls: list[str] = []
    outcome = measured(row(contest(bench, calls, wrong=True), Target("<=", 1)), bench, 3)
    assert outcome.failed
    assert not calls
    assert outcome.met is None
    assert "failed: Content mismatch" in brief(outcome, judged=True)


def test_the_memory_that_counts_is_the_most_any_daemon_took(bench: Bench) -> None:
    grown = [Sample(1.0, 0.0, 5), Sample(1.0, 0.0, 7)]
    assert growth([Outcome(row(contest(bench, []), None), grown, [Sample(1.0, 0.0, 99)])]) == 7
    assert growth([Outcome(row(contest(bench, []), None), samples(1.0))]) is None


def test_a_chain_is_built_when_needed_and_dropped_after_the_last_row_that_needs_it(bench: Bench) -> None:
    folder = bench.folder / "chains" / "sparse"
    made = contest(bench, [])

    def prepare(bench: Bench, stack: ExitStack) -> Contest:
        assert bench.chains["sparse"].top.exists()
        return made

    rows = [replace(row(made, None, chains=["sparse"]), prepare=prepare) for _ in range(2)]
    seen = [folder.exists() for _ in measure_all(rows, bench, 1)]
    assert seen == [True, True]
    assert not folder.exists()


def test_the_room_asked_for_is_that_of_the_chains_held_together(bench: Bench) -> None:
    made = contest(bench, [])
    small, large = bench.chains.room("depth-1"), bench.chains.room("shallow")
    first, second = row(made, None, chains=["depth-1"]), row(made, None, chains=["shallow"])
    alone = room_for([second], bench.chains)
    assert room_for([first, second], bench.chains) == alone
    assert room_for([first, second, first], bench.chains) == alone + small
    assert alone > large


@pytest.mark.parametrize("sizes", [FULL, QUICK])
def test_every_row_has_a_name_of_its_own_and_chains_that_can_be_built(tmp_path: Path, sizes: Sizes) -> None:
    rows = list(all_rows(sizes))
    assert len({one.key for one in rows}) == len(rows)
    chains = Chains(tmp_path, sizes)
    assert all(chains.room(name) > 0 for one in rows for name in one.chains)


def test_warming_reads_what_a_file_holds_and_passes_over_its_holes(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with open(file, "wb") as opened:
        opened.truncate(1 << 40)
        opened.seek(1 << 39)
        opened.write(b"data")
    warm(file)


def test_memory_that_a_daemon_took_for_a_moment_counts(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "(here / 'ready').touch()\n"
        "while not (here / 'go').exists(): time.sleep(0.01)\n"
        "held = b'x' * (64 << 20); del held\n"
        "(here / 'done').touch()\n"
        "time.sleep(60)\n"
    )
    with daemon(sys.executable, "-c", program, tmp_path, answers=(tmp_path / "ready").exists) as server:
        assert -1 << 20 <= server.growth() < 16 << 20  # the kernel counts each processor's pages apart
        (tmp_path / "go").touch()
        while not (tmp_path / "done").exists():
            time.sleep(0.01)
        assert 60 << 20 <= server.growth() < 80 << 20
