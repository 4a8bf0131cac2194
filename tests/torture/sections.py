"""All sections, in the order in which they run."""

from functools import partial

from tests.torture.changes import changes
from tests.torture.eio import eio
from tests.torture.foreign import fuzz_foreign
from tests.torture.foreign_formats import FOREIGN
from tests.torture.fuzz import fuzz
from tests.torture.hang import hang
from tests.torture.kill import kill
from tests.torture.load import load
from tests.torture.metadata import metadata
from tests.torture.names import names
from tests.torture.races import races
from tests.torture.task import Section

__all__ = ["SECTIONS"]

SECTIONS = [
    Section("fuzz", "damaged and generated images, against QEMU", "images", fuzz, 0.18, long=20_000),
    *[
        Section(f"fuzz-{name}", f"damaged {name} images", "chains", partial(fuzz_foreign, each), 0.02, long=20_000)
        for name, each in FOREIGN.items()
    ],
    Section("changes", "sources changing under 16 readers", "events", changes, 0.12, long=2_000),
    Section("metadata", "changes of metadata, and writes in their guise", "sequences", metadata, 0.05, long=1_000),
    Section("eio", "a source whose reads fail", "reads", eio, 0.12, long=200_000),
    Section("hang", "a source that hangs, 300 readers on it", "hung reads", hang, 0.1, long=3_000),
    Section("kill", "kill -9 of the daemon under load", "kills", kill, 0.1, long=100),
    Section("load", "200 readers on 24 files", "reads", load, 0.15, long_seconds=600),
    Section("names", "many names of dear files, beside a reader", "names", names, 0.06, long=2_000),
    Section("races", "listing, stat and open beside changes", "changes", races, 0.08, long=2_000),
]
