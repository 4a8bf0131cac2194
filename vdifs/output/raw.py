"""The raw output: the guest contents, which have no layout and no tables."""

from collections.abc import Hashable, Mapping

from vdifs.output.guest_contents import GuestContents
from vdifs.output.protocol import ResolvedSpec

__all__ = ["RawOutput"]


class RawOutput:
    """See Output."""

    def __init__(self, spec: ResolvedSpec) -> None:
        """Counts what the disk holds, in clusters of the spec, and reads no data."""
        contents = GuestContents(spec.chain, spec.cluster_bits)
        self.size = self.size_if_full = contents.size
        self.allocated = contents.allocated
        self.packed = 0
        self.stored = min(self.allocated, self.size)
        # No byte follows from these, but the etags of raw views have always had them and must stay the same.
        self.etag_parts = (spec.cluster_bits, spec.extended_l2), None
        self.tables: Mapping[Hashable, int] = {id(contents.summary): contents.summary.nbytes}
        self.readinto, self.known, self.ahead = contents.readinto, contents.known, contents.ahead
        self.regions, self.seek = contents.regions, contents.seek
