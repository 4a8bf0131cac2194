"""The two questions about one image: what does vdifs say, what QEMU? They must read the same, or both refuse."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vdifs
from tests.support import oracle
from tests.support.image_file import Image


def contents(image: Image | Path, **options: object) -> bytes:
    """Return the guest contents as vdifs reads them."""
    path = image.path if isinstance(image, Image) else image
    with vdifs.open(path, view="raw", **options) as opened:  # type: ignore[arg-type] # passed on
        return b"".join(opened.stream())


def qemu_contents(image: Image) -> bytes | None:
    """Return the guest contents as QEMU reads them, None where it refuses to."""
    output = image.path.with_name(image.path.name + ".raw-by-qemu")
    try:
        return oracle.materialize(image.path, output).read_bytes()
    except oracle.OracleError:
        return None
    finally:
        output.unlink(missing_ok=True)


def both_read(image: Image) -> bytes:
    """Return the guest contents, on which vdifs and QEMU must agree; the full image must hold them as well."""
    found = contents(image)
    assert found == qemu_contents(image)
    full = Image(image.path.with_name(image.path.name + ".full"))
    with vdifs.open(image.path) as opened:
        full.path.write_bytes(b"".join(opened.stream()))
    oracle.check(full.path)
    assert qemu_contents(full) == found
    return found


@contextmanager
def refused(kind: type[vdifs.VdifsError], code: int, match: str) -> Iterator[None]:
    """Expect exactly the error class `kind` with errno `code` and a telling one-line message."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert type(caught.value) is kind
    assert os.strerror(caught.value.errno) == os.strerror(code)
    assert str(caught.value).isprintable()


@contextmanager
def format_error(match: str) -> Iterator[None]:
    with refused(vdifs.FormatError, 5, match):
        yield


@contextmanager
def unsupported(match: str) -> Iterator[None]:
    with refused(vdifs.UnsupportedError, 95, match):
        yield


def both_refuse(image: Image, match: str, *, kind: type[vdifs.VdifsError] = vdifs.FormatError, code: int = 5) -> None:
    """Expect both to refuse the image when it is opened."""
    with refused(kind, code, match):
        vdifs.open(image.path).close()
    assert qemu_contents(image) is None, "QEMU reads it: a deviation"
