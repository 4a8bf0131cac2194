"""qcow2 as one of the formats: recognized by its first four bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vdifs.errors import FormatError
from vdifs.formats.image_format import BackingName, Description, Front, Metadata
from vdifs.formats.problems import FileAudit, SnapshotStates
from vdifs.formats.qcow2.header import MAGIC, NO_MAGIC, Header, Incompatible
from vdifs.formats.qcow2.metadata import find_snapshot, labels_and_sizes, read_bitmaps, read_header, read_snapshots
from vdifs.formats.qcow2.snapshots import Snapshot, snapshot_labels
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR, round_down

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer

__all__ = ["QCOW2", "Qcow2", "Qcow2Metadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Qcow2Metadata(Metadata):
    """What the header of a qcow2 says. What reads tables is imported where it is needed: `vdifs info` reads none."""

    header: Header

    def check(self, file: HostFile) -> None:
        """Raise FormatError for a damaged table of snapshots, and for a data file that is needed and not named."""
        from vdifs.formats.qcow2.snapshot_places import check_snapshots

        check_snapshots(file, self.header)
        if self.header.incompatible_features & Incompatible.DATA_FILE and not self.data_files:
            raise FormatError("it keeps its data in an external data file, but does not name one", where=file.name)

    def layer(self, file: HostFile, data: Sequence[HostFile], snapshot: str | None) -> "Layer":
        """See Metadata."""
        from vdifs.formats.qcow2.layer import L1Place, Qcow2Layer
        from vdifs.formats.qcow2.snapshot_places import snapshot_places

        header = self.header
        if snapshot is None:
            place: L1Place | None = L1Place(header.l1_table_offset, header.l1_size, header.virtual_size)
        else:
            place = snapshot_places(file, header).find(snapshot)
        assert place is not None, "every label has its place"
        return Qcow2Layer(file, data[0], header, place)

    def label_of(self, file: HostFile, wanted: str) -> str:
        """See Metadata."""
        from vdifs.formats.qcow2.snapshot_places import snapshot_places

        if snapshot_places(file, self.header).find(wanted) is not None:
            return wanted
        return find_snapshot(file, read_snapshots(file, self.header), wanted)[0]

    def labelled_snapshots(self, file: HostFile) -> tuple[tuple[str, Snapshot], ...]:
        """See Metadata."""
        snapshots = read_snapshots(file, self.header)
        return tuple(zip(snapshot_labels(snapshots), snapshots, strict=True))

    def labels_and_sizes(self, file: HostFile) -> tuple[tuple[str, int | None], ...]:
        """See Metadata."""
        return labels_and_sizes(file, self.header)

    def describe(self, file: HostFile, snapshot: str | None) -> Description:
        """See Metadata."""
        from vdifs.formats.qcow2.describe import Qcow2Description

        snapshots, bitmaps = read_snapshots(file, self.header), read_bitmaps(file, self.header)
        size, label = self.virtual_size, None
        if snapshot is not None:
            label, chosen = find_snapshot(file, snapshots, snapshot)
            size = size if chosen.disk_size is None else round_down(chosen.disk_size, SECTOR)
        return Qcow2Description(size, label, header=self.header, snapshots=snapshots, bitmaps=bitmaps)

    def snapshot_states(self, file: HostFile) -> SnapshotStates:
        """See Metadata."""
        from vdifs.formats.qcow2.snapshot_places import snapshot_places

        return snapshot_places(file, self.header)

    def audit(self, file: HostFile, path: str, *, has_overlay: bool) -> FileAudit:
        """See Metadata."""
        from vdifs.formats.qcow2.audit import Qcow2Audit

        return Qcow2Audit.of(file, self.header, path, has_overlay=has_overlay)


class Qcow2:
    """The format "qcow2"."""

    name = title = "qcow2"
    suffixes = (".qcow2", ".qcow")
    unmarked = False
    no_mark = NO_MAGIC

    def probe(self, front: Front) -> bool:
        """Tell whether a file starts with the magic; see ImageFormat."""
        return front.head[: len(MAGIC)] == MAGIC

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:
        """Return what the header says; see ImageFormat, and Header.parse for what it refuses."""
        header = read_header(front, corrupt_too=corrupt_too)
        backing = None if header.backing_file is None else BackingName(header.backing_file, header.backing_format)
        external = header.incompatible_features & Incompatible.DATA_FILE
        return Qcow2Metadata(
            self,
            header.virtual_size,
            header.cluster_bits,
            backing,
            (header.data_file,) if external and header.data_file else (),
            header.nb_snapshots,
            header.hidden,
            header=header,
        )


QCOW2 = Qcow2()
