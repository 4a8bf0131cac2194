"""Internal snapshots are images, each of its own size: what QEMU reads once it went back to one in a copy."""

import json
import os
import shutil
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle, qcow2
from tests.support.builder import make
from tests.support.chains import Shape, SourceChain, make_chain
from tests.support.command_line import answer, export, run_vdifs, said
from tests.support.drafts import Draft, discard, resize, write_data, write_zeros, write_zeros_and_unmap
from tests.support.proofs import prove_delta, prove_full, prove_info, prove_map
from tests.support.units import KIB, MIB

VARIANTS: list[dict[str, object]] = [
    {"compat": "0.10"},
    {"cluster_size": 512},
    {"cluster_size": 4096, "refcount_bits": 64},
    {"compression_type": "zstd"},
    {"cluster_size": "2M", "extended_l2": "on"},
]


def take(image: Path, name: str) -> None:
    oracle.qemu_img("snapshot", "-c", name, image)


def went_back(image: Path, snapshot: str) -> Path:
    """Return a copy of an image in which QEMU went back to a snapshot, by its ID or name."""
    copy = image.with_name(f"back-to-{len(list(image.parent.iterdir()))}.qcow2")
    shutil.copy(image, copy)
    oracle.qemu_img("snapshot", "-a", snapshot, copy)
    return copy


def labels_and_ids(image: Path) -> dict[str, str]:
    """Return label -> ID of each snapshot, as `vdifs info` tells."""
    return {each["label"]: each["id"] for each in answer("info", image).get("snapshots", [])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("backing", ["raw", "qcow2"])
def test_a_snapshot_is_an_image_of_the_size_it_had(
    options: dict[str, object], backing: str, folder: Path, tmp_path: Path
) -> None:
    base, image = folder / f"base.{backing}", folder / "image.qcow2"
    oracle.qemu_img("create", "-q", "-f", backing, base, "3M")
    oracle.qemu_io(base, ["write -P 9 100k 2M"], format=backing)
    make(image, 3 * MIB, backing=(base.name, backing), **options)
    packed = ["write -c -P 1 0 2M"] if options.get("compression_type") else ["write -P 1 50k 70k"]
    oracle.qemu_io(image, [*packed, "write -P 2 2M 1000"])
    take(image, "as made")
    size = 3 * MIB if options.get("compat") == "0.10" else 5 * MIB  # QEMU resizes no version 2 that has snapshots
    end = size - 100 * KIB
    longer = [f"truncate {size}"] if size > 3 * MIB else []
    oracle.qemu_io(image, [*longer, f"write -P 3 {end} 100k", "write -z 100k 100k", "write -P 4 60k 10k"])
    take(image, "longer")
    oracle.qemu_io(image, ["discard 0 1M", "write -P 5 2900k 64k"])
    for number, label in enumerate(("as made", "longer")):
        copy = went_back(image, label)
        prove_full(f"{image}@{label}", tmp_path / f"{number}.qcow2", like=copy)
        prove_delta(f"{image}@{label}", base, base, tmp_path / f"{number} on base.qcow2", like=copy)
        own = tmp_path / f"{number} on itself.qcow2"
        prove_delta(f"{image}@{label}", f"{image}@{label}", tmp_path / f"{number}.qcow2", own, like=copy)
        assert (
            answer("info", f"{image}@{label}")["virtual-size"] == oracle.virtual_size(copy) == [3 * MIB, size][number]
        )
        prove_map(f"{image}@{label}", copy)
    prove_full(image, tmp_path / "active.qcow2", like=image)
    prove_info(image)


@pytest.mark.seeds(6, long=60)
@pytest.mark.timeout(600)
def test_every_snapshot_of_a_random_history_is_what_qemu_goes_back_to(tmp_path: Path, seed: int, rng: Random) -> None:
    chain = make_chain(tmp_path / "source", seed, Shape(depth=range(1, 4), largest_disk=16 * MIB))
    top = chain.images[0]
    if top.format == "raw":
        return
    trust = ("--trust", chain.folder)
    with chain.explained():
        draft = drafted(chain, tmp_path / "source.scratch")
        hot = [rng.randrange(max(draft.size, 1)) for _ in range(3)]
        possible = [write_data, write_zeros, write_zeros_and_unmap, discard, *([resize] if draft.version == 3 else [])]
        refcount_bits: int = oracle.info(top.path)["format-specific"]["data"]["refcount-bits"]
        numbers = range(min(5, (1 << refcount_bits) - 3))  # a cluster that all share, and one more, must be counted
        for number in numbers:
            take(top.path, f"number {number}")
            for operation in rng.choices(possible, k=3):
                operation(rng, draft, hot)
            draft.flush()
        for number in numbers:
            copy = went_back(top.path, f"number {number}")
            image = f"{top.path}@number {number}"
            prove_full(image, tmp_path / "full.qcow2", like=copy, words=trust)
            prove_map(image, copy, words=trust)
            for base in chain.images[1:]:
                prove_delta(image, base.path, base.path, tmp_path / "delta.qcow2", like=copy, words=trust)
                (tmp_path / "delta.qcow2").unlink()
            (tmp_path / "full.qcow2").unlink()


def drafted(chain: SourceChain, scratch: Path) -> Draft:
    """Return the top of a chain as something that can be written; it says of its size only what is whole sectors."""
    top = chain.images[0]
    stated = oracle.info(top.path)
    version = 2 if stated["format-specific"]["data"]["compat"] == "0.10" else 3
    below = Draft(top.path, 0, "qcow2", 3, 512, 1 << 60, None, scratch, []) if len(chain.images) > 1 else None
    recipe: list[str] = []
    return Draft(
        top.path, 255, "qcow2", version, stated["cluster-size"], top.virtual_size, below, scratch, recipe, fresh=False
    )


def test_a_snapshot_and_the_active_state_are_bases_of_one_another(folder: Path, tmp_path: Path) -> None:
    image = folder / "image.qcow2"
    make(image, MIB)
    for number, name in enumerate(("a", "b", "x@b", "None")):
        oracle.qemu_io(image, [f"write -P {number + 1} {number * 64}k 4k"])
        take(image, name)
    pairs: list[tuple[str | Path, str | Path]] = [
        (image, f"{image}@a"),
        (f"{image}@a", image),
        (f"{image}@a", f"{image}@b"),
        (f"{image}@x@b", f"{image}@b"),  # a name that ends like another
        (f"{image}@None", image),
    ]
    for number, (one, other) in enumerate(pairs):
        like = export(one, tmp_path / f"{number}.like")
        full = export(other, tmp_path / f"{number}.full")
        prove_delta(one, other, full, tmp_path / str(number), like=like)


@pytest.mark.parametrize("one", ["a%2Fb", "a/b", "7"])
@pytest.mark.parametrize("other", ["a%2Fb", "a/b", "7"])
def test_a_snapshot_is_its_own_base_however_it_is_called(one: str, other: str, folder: Path, tmp_path: Path) -> None:
    """By its label, its name or its ID, on both sides."""
    image = folder / "image.qcow2"
    make(image, MIB)
    for _ in range(6):
        take(image, "s")
    oracle.qemu_io(image, ["write -P 1 0 64k"])
    take(image, "a/b")
    export(f"{image}@{one}", tmp_path / "delta.qcow2", "--base", f"{image}@{other}")
    assert answer("map", f"{image}@{one}", "--base", f"{image}@{other}")[0]["present"] is False
    with vdifs.open(image, snapshot=one, base=f"{image}@{other}") as opened:
        assert opened.size == (tmp_path / "delta.qcow2").stat().st_size


@pytest.mark.parametrize("command", ["map", "measure"])
def test_a_base_that_is_no_snapshot_is_said_to_be_none(command: str, folder: Path) -> None:
    base, image, raw = folder / "base.qcow2", folder / "image.qcow2", folder / "disk.raw"
    raw.write_bytes(bytes(MIB))
    make(base, MIB, backing=(raw.name, "raw"))
    take(base, "below")
    make(image, MIB, backing=(base.name, "qcow2"))
    take(image, "one")
    for other, listed in [(image, "one"), (base, "below"), (raw, "none")]:
        for name in (str(image), f"{image}@one"):
            message = f"{other}: it has no snapshot 'bad': choose one of its snapshots ({listed})"
            assert run_vdifs(command, name, "--base", f"{other}@bad") == (1, "", f"vdifs: {message}\n")


def test_an_image_on_top_of_one_with_snapshots_stands_on_its_active_state(folder: Path, tmp_path: Path) -> None:
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    make(base, MIB, "write -P 1 0 1M")
    take(base, "before")
    oracle.qemu_io(base, ["write -P 2 0 512k"])
    make(top, MIB, "write -P 3 0 64k", backing=(base.name, "qcow2"))
    prove_full(top, tmp_path / "top.qcow2", like=top)
    prove_delta(top, base, base, tmp_path / "delta.qcow2", like=top)
    before = export(f"{base}@before", tmp_path / "before.qcow2")
    prove_delta(top, f"{base}@before", before, tmp_path / "on-before.qcow2", like=top)


@pytest.fixture
def twins(folder: Path) -> Path:
    """An image with two snapshots called `same`, ID 1 with 1s and ID 2 with 2s, and one called `other`."""
    image = folder / "image.qcow2"
    make(image, MIB)
    for number in (1, 2):
        oracle.qemu_io(image, [f"write -P {number} 0 1M"])
        take(image, "same")
    take(image, "other")
    return image


def test_two_snapshots_of_one_name_have_their_ids_in_their_labels(twins: Path, tmp_path: Path) -> None:
    assert labels_and_ids(twins) == {"same~1": "1", "same~2": "2", "other": "3"}
    for number in ("1", "2"):
        copy = went_back(twins, number)
        prove_full(f"{twins}@same~{number}", tmp_path / f"{number}.qcow2", like=copy)
    assert sorted(listed(twins.parent)) == [
        *(f"back-to-{n}.qcow2{s}" for n in (1, 2) for s in ("", "@other", "@same~1", "@same~2")),
        *(f"image.qcow2{s}" for s in ("", "@other", "@same~1", "@same~2")),
    ]


def listed(folder: Path) -> list[str]:
    return [each["name"] for each in answer("list", folder)]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("tab\tnew\nline\x7f", "tab%09new%0Aline%7F"),
        ("%2F", "%252F"),
        ("..", ".."),
        ("a@b", "a@b"),
        ("größe", "größe"),
    ],
)
def test_a_snapshot_has_a_name_that_a_file_can_have(name: str, label: str, folder: Path, tmp_path: Path) -> None:
    image = folder / "image.qcow2"
    make(image, MIB, "write -P 1 0 1M")
    take(image, name)
    oracle.qemu_io(image, ["write -P 2 0 1M"])
    assert labels_and_ids(image) == {label: "1"}
    assert sorted(listed(folder)) == ["image.qcow2", f"image.qcow2@{label}"]
    copy = went_back(image, "1")
    for number, spelled in enumerate((label, name)):
        prove_full(f"{image}@{spelled}", tmp_path / f"{number}.qcow2", like=copy)
    delta = export(f"{image}@{label}", tmp_path / "delta.qcow2", "--base", f"{image}@{label}")
    assert oracle.info(delta, "qcow2")["backing-filename"] == f"image.qcow2@{label}"


def test_a_name_with_an_at_sign_is_a_file_if_there_is_one_and_else_what_stands_before_the_first(
    folder: Path, tmp_path: Path
) -> None:
    """Files `a`, `a@b` and `a@b@c`, and of the first two a snapshot `b@c` and `c`: which is meant by `a@b@c`?"""
    contents = {"a": 1, "a@b": 2, "a@b@c": 3}
    for name, number in contents.items():
        make(folder / name, MIB, f"write -P {number} 0 1M")
    take(folder / "a", "b@c")
    take(folder / "a@b", "c")
    for gone, number in [((), 3), (("a@b@c",), 1), (("a",), 2)]:
        for name in gone:
            (folder / name).unlink()
        with vdifs.open(export(str(folder / "a@b@c"), tmp_path / f"{number}.qcow2"), view="raw") as opened:
            assert opened.read_at(0, MIB) == bytes([number]) * MIB
    (folder / "a@b").unlink()
    assert "No such file" in run_vdifs("info", folder / "a@b@c").err


@pytest.mark.parametrize("command", ["info", "map", "measure", "export"])
def test_a_snapshot_that_is_not_there_is_said_so_by_every_command(command: str, twins: Path, tmp_path: Path) -> None:
    ended = run_vdifs(command, f"{twins}@missing", *([tmp_path / "output"] if command == "export" else []))
    assert (ended.status, ended.out) == (1, "")
    assert "no snapshot 'missing': choose one of its snapshots (same~1, same~2, other)" in ended.err


def test_the_state_of_a_virtual_machine_is_reported_and_not_exported(folder: Path, tmp_path: Path) -> None:
    """`write -b` of qemu-io writes where QEMU keeps that state: behind the disk, mapped by the same L1 table."""
    image = folder / "image.qcow2"
    make(image, MIB, "write -P 1 0 1M", "write -b -P 7 0 1M", cluster_size=4 * KIB)
    take(image, "with state")
    oracle.qemu_io(image, ["truncate 3M"])
    full = prove_full(f"{image}@with state", tmp_path / "full.qcow2", like=went_back(image, "with state"))
    assert full.stat().st_size < 2 * MIB
    prove_info(image)


def test_snapshots_of_a_file_that_others_changed_meanwhile_are_served(folder: Path, tmp_path: Path) -> None:
    """A snapshot is deleted, its clusters are used again: the others stay what they were."""
    image = folder / "image.qcow2"
    make(image, MIB, cluster_size=4 * KIB)
    for number in (1, 2, 3):
        oracle.qemu_io(image, [f"write -P {number} 0 512k"])
        take(image, str(number) * 3)
    oracle.qemu_img("snapshot", "-d", "222", image)
    oracle.qemu_io(image, ["write -P 4 256k 512k"])
    assert labels_and_ids(image) == {"111": "1", "333": "3"}
    for number in (1, 3):
        prove_full(f"{image}@{str(number) * 3}", tmp_path / f"{number}.qcow2", like=went_back(image, str(number) * 3))


def test_snapshots_are_told_apart_even_where_one_is_called_as_another_is_shown(twins: Path, tmp_path: Path) -> None:
    """`same~2` is what the second `same` is shown as, and the real name of the third here."""
    oracle.qemu_img("snapshot", "-d", "other", twins)
    oracle.qemu_io(twins, ["write -P 3 0 1M"])
    take(twins, "same~2")
    assert labels_and_ids(twins) == {"same~1": "1", "same~2": "2", "same~2~3": "3"}
    lines = [line for line in said("info", twins).splitlines() if line.startswith("snapshot @")]
    assert [line.split(",")[0] for line in lines] == [
        "snapshot @same~1: ID 1", "snapshot @same~2: ID 2", "snapshot @same~2~3: ID 3"
    ]  # fmt: skip
    assert said("check", twins).endswith("4 images, 0 errors\n")
    for label, ident in labels_and_ids(twins).items():
        with vdifs.open(twins, snapshot=label, view="raw") as image:
            assert image.read_at(0, 1) == bytes([int(ident)])


def test_a_snapshot_that_is_not_offered_is_looked_at_all_the_same(twins: Path) -> None:
    shutil.copy(twins, twins.with_name("image.qcow2@other"))
    offset = int.from_bytes(snapshot_entry(twins, 2)[:8], "big")
    with twins.open("r+b") as file:
        os.pwrite(file.fileno(), (0x1230000 + 512).to_bytes(8, "big"), offset)
    problems = json.loads(run_vdifs("check", twins.parent, "--output", "json").out)["problems"]
    found = {(each["name"], each["kind"], each["severity"]) for each in problems}
    assert {("image.qcow2@other", "name-taken", "warning"), ("image.qcow2@other", "damaged", "error")} <= found


def test_list_shows_the_snapshots_of_every_image_and_check_looks_at_each(twins: Path) -> None:
    assert said("check", twins.parent).endswith("4 images, 0 errors\n")
    assert json.loads(said("check", twins.parent, "--output", "json"))["problems"] == []


def test_a_damaged_snapshot_is_a_problem_of_that_snapshot_alone(twins: Path, tmp_path: Path) -> None:
    """The L1 table of `other` is lost; `check` says so, and all else is served."""
    offset = int.from_bytes(snapshot_entry(twins, 2)[:8], "big")
    with twins.open("r+b") as file:
        os.pwrite(file.fileno(), (0x1230000 + 512).to_bytes(8, "big"), offset)
    ended = run_vdifs("check", twins.parent, "--output", "json")
    problems = json.loads(ended.out)["problems"]
    assert (ended.status, [each["name"] for each in problems]) == (1, ["image.qcow2@other"])
    assert run_vdifs("measure", f"{twins}@other").status == 1
    for name in (str(twins), f"{twins}@same~1"):
        export(name, tmp_path / f"{len(name)}.qcow2")
    oracle.compare(tmp_path / f"{len(str(twins))}.qcow2", twins)


def snapshot_entry(image: Path, index: int) -> bytes:
    """Return an entry of the snapshot table."""
    return list(qcow2.snapshots_in(image.read_bytes()))[index]
