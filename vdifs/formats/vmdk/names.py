"""Names that a descriptor has: bytes in an encoding that it states, and paths of other systems. Pure.

A name is tried as it stands there (QEMU, 7-Zip), then as its encoding says (libvmdk). See docs/formats.md, VMDK, and
Detection.
"""

import re

__all__ = ["parent_names", "preferred", "spellings"]

_ENCODING = re.compile(
    r"utf-?8|windows-?[0-9]{3,4}|cp[0-9]{3,4}|iso-?8859-[0-9]{1,2}|gbk|gb2312|gb18030|big5|big5hkscs"
    r"|shift[-_]?jis|euc[-_](?:jp|kr)|koi8-[ru]|us-ascii"
)
_JAPANESE = re.compile(r"shift[-_]?jis")
_OF_WINDOWS = re.compile(r"\\|[A-Za-z]:")
_ABSOLUTE = re.compile(r"/|file://", re.IGNORECASE)
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_MOST_CHARACTERS = 4096


def spellings(name: bytes, encoding: bytes) -> tuple[str, ...]:
    """Return what a name may be, each once: its bytes, as file names are, then what they say in `encoding`."""
    found = [name.decode("utf-8", "surrogateescape")]
    stated = encoding[:40].decode("latin-1").lower()
    if _ENCODING.fullmatch(stated) and not name.isascii():
        try:
            found.append(name.decode("cp932" if _JAPANESE.fullmatch(stated) else stated))
        except (LookupError, UnicodeDecodeError):
            pass  # then it can only be as it stands
    return tuple(dict.fromkeys(found))


def parent_names(hint: bytes, encoding: bytes) -> tuple[str, ...]:
    """Return where the parent may be, as `Parent.names`: the hint if it is relative, then its last component."""
    relative: list[str] = []
    last: list[str] = []
    for spelling in spellings(hint, encoding):
        if len(spelling) > _MOST_CHARACTERS or _CONTROL.search(spelling):
            continue
        forms = [spelling, spelling.replace("\\", "/")]  # as QEMU takes it, then as libvmdk does
        if _OF_WINDOWS.match(spelling):
            del forms[0]
        elif not _ABSOLUTE.match(spelling):
            relative += forms
        last += [form.rsplit("/", 1)[-1] for form in forms]
    names = [re.sub(r"^(?:\./+)+", "", name) for name in [*relative, *last]]
    return tuple(dict.fromkeys(name for name in names if name.rsplit("/", 1)[-1] not in ("", ".", "..")))


def preferred(name: bytes, encoding: bytes) -> str:
    """Return the spelling of a name that is most likely meant: its bytes if they are UTF-8, as file names here are."""
    as_it_stands, *decoded = spellings(name, encoding)
    if not decoded:
        return as_it_stands
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return decoded[0]
    return as_it_stands
