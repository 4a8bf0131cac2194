"""What `scripts/bench` concludes from its samples; the measuring itself is tried by `scripts/bench --quick`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.chains import GUEST_FILE, Chains, warm
from benchmarks.contest import Bench, Contest, Outcome, Peer, Row, Run, Sample, SkippedError, Target, measured
from benchmarks.processes import FailedError, daemon
from benchmarks.rows import all_rows
from benchmarks.session import measure_all, room_for
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.table import as_json, brief, growth, load_line
from tests.conftest import require_tool


def samples(*values: float) -> list[Sample]:
    return [Sample(value, 0.0) for value in values]


def row(made: Contest, *targets: Target | None, chains: Sequence[str] = ()) -> Row:
    peers = [Peer(f"peer {number}", target) for number, target in enumerate(targets, 1)]
    return Row("row", "work", "s", chains, lambda _bench, _stack: made, peers)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    require_tool("qemu-img")
    return Bench(tmp_path, Chains(tmp_path / "chains", QUICK), QUICK)


def contest(bench: Bench, calls: list[str], *others: SkippedError, wrong: bool = False) -> Contest:
    def side(name: str, value: float) -> Sample:
        calls.append(name)
        (bench.outputs / name).write_text("what the next run must not find")
        return Sample(value, 0.0)

    def prove() -> None:
        if wrong:
            raise FailedError("Content mismatch")

    peers: list[Run | SkippedError] = [lambda: side("peer", 4.0), *others]
    return Contest(lambda: side("ours", 1.0), peers, prove, (), bench.outputs)


@pytest.mark.parametrize(
    ("target", "ours", "peer", "met"),
    [
        (Target("<=", 0.5), (9.0, 1.0, 1.0), (2.0, 2.0, 0.1), True),
        (Target("<=", 0.5), (1.1,), (2.0,), False),
        (Target(">=", 4), (4.0,), (1.0,), True),
        (Target(">=", 4), (3.9,), (1.0,), False),
        (Target("<=", 1.3, time=True), (1.0,), (1.2,), True),
        (Target("<=", 1.3, time=True), (1.0,), (1.4,), False),
        (None, (3.1,), (1.0,), None),
        (Target("<=", 3), (), (), None),
        (Target("<=", 3), (1.0,), (), None),
        (Target("<=", 3), (1.0,), (0.0,), None),
    ],
)
def test_a_target_is_met_by_the_ratio_of_medians_or_of_their_times(
    bench: Bench, target: Target | None, ours: tuple[float, ...], peer: tuple[float, ...], met: bool | None
) -> None:
    outcome = Outcome(row(contest(bench, []), target), samples(*ours), [samples(*peer)])
    assert outcome.met is met


@pytest.mark.parametrize(("value", "met"), [(2.9, True), (3.1, False)])
def test_a_target_of_a_row_without_peers_is_met_by_the_value_alone(bench: Bench, value: float, met: bool) -> None:
    outcome = Outcome(replace(row(contest(bench, [])), target=Target("<=", 3)), samples(value))
    assert outcome.met is met
    assert f"{value:.3f} s  <= 3 s  {'yes' if met else 'NO'}" in brief(outcome, judged=True)


@pytest.mark.parametrize(("second", "met"), [(2.0, True), (0.5, False)])
def test_a_row_meets_its_targets_if_it_meets_those_of_all_peers(bench: Bench, second: float, met: bool) -> None:
    made = row(contest(bench, []), Target("<=", 0.5), Target("<=", 1.3, time=False), None)
    outcome = Outcome(made, samples(1.0), [samples(4.0), samples(second), samples(0.1)])
    assert outcome.met is met
    told = "row  1.000 s  4.000 s  0.25x  <= 0.5x  yes;  "
    told += "2.000 s  0.50x  <= 1.3x  yes;  " if met else "0.500 s  2.00x  <= 1.3x  NO;  "
    assert brief(outcome, judged=True) == told + "0.100 s  10.00x"
    assert "yes" not in brief(outcome, judged=False)


def test_a_peer_that_cannot_run_here_says_why_and_the_others_are_judged(bench: Bench) -> None:
    calls: list[str] = []
    made = contest(bench, calls, SkippedError("there is no compiler"))
    outcome = measured(row(made, Target("<=", 0.5), Target("<=", 0.1)), bench, 2)
    assert calls == ["ours", "peer", "peer", "ours"]
    assert outcome.met is True
    assert not outcome.failed
    assert [each.problem for each in outcome.compared] == [None, "there is no compiler"]
    assert "skipped: there is no compiler" in brief(outcome, judged=True)
    _, second = as_json([outcome], 2, bench.folder, 0.5)["rows"][0]["peers"]
    assert (second["problem"], second["ratio"], second["met"]) == ("there is no compiler", None, None)


def test_the_sides_take_turns_and_each_begins_in_turn(bench: Bench) -> None:
    calls: list[str] = []
    outcome = measured(row(contest(bench, calls), None), bench, 3)
    assert calls == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [each.ratio for each in outcome.compared] == [0.25]


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
    assert growth([Outcome(row(contest(bench, []), None), grown, [[Sample(1.0, 0.0, 99)]])]) == 7
    assert growth([Outcome(row(contest(bench, []), None), samples(1.0))]) is None


def test_a_chain_is_built_when_needed_and_dropped_after_the_last_row_that_needs_it(bench: Bench) -> None:
    folder = bench.folder / "chains" / "sparse"
    made = contest(bench, [])

    def prepare(bench: Bench, stack: ExitStack) -> Contest:
        assert bench.chains["sparse"].top.exists()
        return made

    rows = [replace(row(made, chains=["sparse"]), prepare=prepare) for _ in range(2)]
    seen = [folder.exists() for _ in measure_all(rows, bench, 1)]
    assert seen == [True, True]
    assert not folder.exists()


def test_the_room_asked_for_is_that_of_the_chains_held_together(bench: Bench) -> None:
    made = contest(bench, [])
    small, large = bench.chains.room("depth-1"), bench.chains.room("shallow")
    first, second = row(made, chains=["depth-1"]), row(made, chains=["shallow"])
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


def test_only_a_rate_has_a_target_that_is_about_times_instead() -> None:
    turned = [one.unit for one in all_rows(FULL) for peer in one.peers if peer.target is not None and peer.target.time]
    assert turned
    assert set(turned) <= {"B/s", "reads/s"}


def test_others_are_what_kept_processors_busy_beside_the_bench_itself() -> None:
    began = load.Moment(at=10.0, busy=100.0, own=5.0)
    assert load.others_between(began, load.Moment(at=20.0, busy=117.0, own=7.0)) == 1.5
    assert load.others_between(began, load.Moment(at=20.0, busy=101.0, own=7.0)) == 0.0
    assert load.others_between(began, began) == 0.0


def test_what_the_bench_itself_does_is_not_the_work_of_others() -> None:
    began = load.now()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    ended = load.now()
    assert ended.own - began.own >= 0.49  # the kernel counts it in two ways
    assert ended.busy > began.busy


def test_the_load_is_told_with_that_of_the_rows_that_were_measured(bench: Bench) -> None:
    made = row(contest(bench, []), None)
    outcomes = [Outcome(made, samples(1.0), [samples(1.0)], others=each) for each in (0.2, 0.4, 1.5)]
    line = load_line([*outcomes, Outcome(made, problem="no root", others=9.0)], 0.75)
    assert line.startswith("load of the machine: 0.75 at the start; ")
    assert f" 0.40 of {os.cpu_count()} processors, at most 1.50" in line
    assert load_line([], 0.75) == "load of the machine: 0.75 at the start"


def test_the_guest_holds_a_file_system_that_the_overlays_leave_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debugfs, convert = require_tool("debugfs"), require_tool("qemu-img")
    monkeypatch.setenv("PATH", str(Path(require_tool("mkfs.ext4")).parent), prepend=os.pathsep)
    chain = Chains(tmp_path, QUICK)["guest"]
    assert len(chain.files) == 6
    disk = tmp_path / "disk.raw"
    subprocess.run([convert, "convert", "-O", "raw", chain.top, disk], check=True)
    subprocess.run([require_tool("e2fsck"), "-fn", disk], check=True, capture_output=True)
    told = subprocess.run([debugfs, "-R", f"stat {GUEST_FILE}", disk], check=True, capture_output=True, text=True)
    assert f"Size: {QUICK.data * 3 // 4}\n" in told.stdout
    content = tmp_path / "content"
    subprocess.run([debugfs, "-R", f"dump {GUEST_FILE} {content}", disk], check=True, capture_output=True)
    assert set(content.read_bytes()) == {2, 3, 4, 5, 6, 0xEE}


def test_the_disk_of_holes_holds_what_it_says_in_two_layers(tmp_path: Path) -> None:
    chain = Chains(tmp_path, QUICK)["holes"]
    told = subprocess.run(
        [require_tool("qemu-img"), "map", "--output=json", chain.top], check=True, capture_output=True, text=True
    )
    runs = [run for run in json.loads(told.stdout) if run["data"]]
    assert {run["depth"] for run in runs} == {0, 1}
    assert sum(run["length"] for run in runs) == QUICK.sparse_data == chain.data


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
