"""How values are written in answers: sizes and counts for people, names for JSON."""

__all__ = ["counted", "json_name", "size_text", "size_with_bytes"]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size_text(size: int) -> str:
    """Return a size as `qemu-img info` writes it: three significant digits and a binary unit."""
    value, unit = float(size), "B"
    for larger in _UNITS:
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"


def size_with_bytes(size: int) -> str:
    """Return a size in both forms."""
    return f"{size_text(size)} ({size} bytes)"


def counted(count: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many}"


def json_name(key: str, name: str) -> dict[str, str]:
    """Return `name` under `key`; where it is no valid UTF-8, with U+FFFD in it and its bytes beside it, in hex."""
    raw = name.encode("utf-8", "surrogateescape")
    try:
        return {key: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "replace"), f"{key}_hex": raw.hex()}
