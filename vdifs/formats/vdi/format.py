"""VDI as one of the formats: recognized by the signature behind the text at its start. docs/formats.md, VDI.

What reads one is imported where it is needed: most files are in another format.
"""

from vdifs.formats.image_format import Front, Metadata

__all__ = ["VDI", "Vdi"]

_SIGNATURE, _SIGNATURE_AT = 0xBEDA107F, 64


class Vdi:
    """The format "vdi"."""

    name, title = "vdi", "VDI"
    suffixes = (".vdi",)
    unmarked = False
    no_mark = "it has no VDI signature at byte 64"

    def probe(self, front: Front) -> bool:
        """Tell whether a file has the signature of a VDI, of any version."""
        return front.head[_SIGNATURE_AT : _SIGNATURE_AT + 4] == _SIGNATURE.to_bytes(4, "little")

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:  # noqa: ARG002 - no VDI is marked corrupt
        """Return what the header says; see ImageFormat."""
        from vdifs.formats.vdi.metadata import VdiMetadata

        return VdiMetadata.read(self, front)


VDI = Vdi()
