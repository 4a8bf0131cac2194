"""Loading beforehand whatever a mount may need only later, as a confined daemon is to open nothing but the sources."""

import codecs
import importlib
import traceback

__all__ = ["preload"]

_MODULES = ("vdifs.formats.qcow2.inflate", "concurrent.futures.thread", "linecache", "tokenize", "json.encoder")
_CODECS = ("ascii", "utf-8", "utf-16-le", "latin-1", "idna")


def preload() -> None:
    """Import what is otherwise imported at its first use, in vdifs and in the libraries below."""
    for module in _MODULES:
        importlib.import_module(module)
    for codec in _CODECS:
        codecs.lookup(codec)
    try:
        raise ExceptionGroup("nothing is wrong", [ValueError()])
    except ExceptionGroup:
        traceback.format_exc()
