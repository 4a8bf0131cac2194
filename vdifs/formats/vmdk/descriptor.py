"""The descriptor of a VMDK: text that says of which extents the disk is made, and which image is below. Pure.

    # Disk DescriptorFile
    CID=fffffffe                        by this a child names it
    parentCID=ffffffff                  no parent
    RW 4192256 SPARSE "disk-s001.vmdk"  the extents, in the order in which they make up the disk

See docs/formats.md, VMDK.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vdifs.errors import FormatError, UnsupportedError, quoted
from vdifs.formats.vmdk.lines import ExtentLine, parse_line

__all__ = ["DESCRIPTOR_MAX_BYTES", "NO_PARENT", "Descriptor", "is_descriptor"]

DESCRIPTOR_MAX_BYTES = 1 << 20
"""As QEMU's limit: a text file that is longer is no descriptor."""
NO_PARENT = "ffffffff"
MOST_EXTENTS = 32_768
MAX_SECTORS = (1 << 54) - 1
"""Of a disk: one more, and its length in bytes is no length of a file."""
_MARK = b"# disk descriptorfile"
_KEY = re.compile(rb"[^\s=\"]+")
_CID = re.compile(rb"(?:0x)?([0-9a-fA-F]{1,8})")
_BLANK = b" \t\r\n\v\f"


def is_descriptor(head: bytes) -> bool:
    """Tell whether a file that begins with `head` is a descriptor, if it is short enough."""
    return head.lstrip(_BLANK)[: len(_MARK)].lower() == _MARK


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a descriptor says. values: by key, in lower case, the first of each; bytes, as they stand there.

    cid, parent_cid: eight lower-case hexadecimal digits, None where it has none. lines: empty for an embedded one.
    """

    version: int
    cid: str | None
    parent_cid: str | None
    values: dict[str, bytes]
    lines: tuple[ExtentLine, ...]

    @classmethod
    def parse(cls, text: bytes, *, embedded: bool) -> "Descriptor":
        """Return what `text` says, up to its first NUL. embedded: in a sparse file, which is the one extent then.

        Raises FormatError, UnsupportedError.
        """
        values: dict[str, bytes] = {}
        lines: list[ExtentLine] = []
        for number, line in _lines(text):
            extent = None if embedded else parse_line(line, f"line {number} of the descriptor")
            if extent is not None:
                lines.append(extent)
            elif (found := _key_and_value(line)) is not None:
                values.setdefault(*found)
            elif not embedded:
                what = f"line {number} of the descriptor is no extent, nor a key and its value"
                raise FormatError(what)  # to pass over an extent would move all that follow
        _check_not_encrypted(values)
        parsed = cls(_version(values), _cid(values, "cid"), _cid(values, "parentcid"), values, tuple(lines))
        if not embedded:
            _check_extents(parsed.lines)
        if parsed.parent_cid in (None, NO_PARENT):
            if parsed.hint:
                raise FormatError("it names a parent, and its parentCID says that there is none")
        elif not parsed.hint:
            raise UnsupportedError(
                f"it has a parent with the CID {parsed.parent_cid}, and no parentFileNameHint: what VirtualBox writes"
            )
        return parsed

    @property
    def hint(self) -> bytes:
        """Where the parent is, as the child names it; empty without parent."""
        return self.values.get("parentfilenamehint", b"")

    @property
    def has_parent(self) -> bool:
        """Whether an image is below."""
        return self.parent_cid not in (None, NO_PARENT)

    @property
    def encoding(self) -> bytes:
        """In which its names are said to be."""
        return self.values.get("encoding", b"")

    @property
    def create_type(self) -> bytes:
        """What it was made as, which decides nothing."""
        return self.values.get("createtype", b"")

    @property
    def sectors(self) -> int:
        """Of all extents together."""
        return sum(line.sectors for line in self.lines)


def has_create_type(text: bytes) -> bool:
    """Tell whether an embedded descriptor is that of an image: those of extents have none, or are empty."""
    return any((found := _key_and_value(line)) is not None and found[0] == "createtype" for _, line in _lines(text))


def _lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each line that says something, and the line without blanks around it."""
    for number, each in enumerate(text.split(b"\0", 1)[0].split(b"\n"), 1):
        line = each.strip(_BLANK)
        if line and not line.startswith(b"#"):
            yield number, line


def _key_and_value(line: bytes) -> tuple[str, bytes] | None:
    key, equals, value = line.partition(b"=")
    key, value = key.strip(_BLANK), value.strip(_BLANK)
    if not equals or _KEY.fullmatch(key) is None:
        return None
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    return key.decode("latin-1").lower(), value


def _version(values: dict[str, bytes]) -> int:
    stated = values.get("version", b"")
    if stated not in (b"1", b"2", b"3"):
        raise FormatError(f"its descriptor has the version {_shown(stated)}, expected 1 to 3")
    return int(stated)


def _cid(values: dict[str, bytes], key: str) -> str | None:
    if (stated := values.get(key)) is None:
        return None
    match = _CID.fullmatch(stated)
    if match is None:
        name = "CID" if key == "cid" else "parentCID"
        raise FormatError(f"its {name} is {_shown(stated)}, expected at most eight hexadecimal digits")
    return match[1].decode().lower().zfill(8)


def _check_not_encrypted(values: dict[str, bytes]) -> None:
    """Refuse what VMware Workstation encrypts, and what an I/O filter of ESX does: its data are no guest's."""
    filters = b" ".join(value for key, value in values.items() if key.endswith("iofilters"))
    if any(key.startswith("encryption") for key in values) or b"crypt" in filters.lower():
        raise UnsupportedError("it is encrypted", remedy="decrypt it with VMware, by its own settings")


def _check_extents(lines: tuple[ExtentLine, ...]) -> None:
    if not 1 <= len(lines) <= MOST_EXTENTS:
        raise FormatError(f"its descriptor has {len(lines)} extents, expected 1 to {MOST_EXTENTS}")
    sectors = sum(line.sectors for line in lines)
    if sectors > MAX_SECTORS:
        raise FormatError(f"its extents have {sectors} sectors together, expected at most {MAX_SECTORS}")


def _shown(value: bytes) -> str:
    return quoted(value[:40]) if value else "none"
