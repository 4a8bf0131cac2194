"""Look at all there is in a folder, between two marks in a trace: `strace ... python -m tests.support.survey FOLDER`.

Writes JSON: for each image the errno of opening it and the first byte of its disk.
"""

import json
import os
import sys
from contextlib import closing, suppress

from vdifs.catalog.catalog import Catalog
from vdifs.chain.links import ImageRef
from vdifs.errors import VdifsError
from vdifs.output.opening import open_image
from vdifs.output.spec import OutputSpec
from vdifs.report.audit import audit

BEGIN, END = "/the-survey-begins", "/the-survey-ends"

Result = tuple[int, int | None]


def survey(folder: str) -> dict[str, Result]:
    found: dict[str, Result] = {}
    with closing(Catalog(folder)) as catalog:
        catalog.scan()
        for path, entry in catalog.entries.items():
            found[path] = _open(catalog, path, entry.format)
            audit(catalog.policy, path, stated=entry.format)
            catalog.overlays(path)
            with suppress(VdifsError):
                catalog.access(path)
        catalog.scan()
    return found


def _open(catalog: Catalog, path: str, stated: str) -> Result:
    try:
        by_catalog = len(catalog.chain(path))
    except VdifsError as error:
        by_catalog = -error.errno
    try:
        with open_image(catalog.policy, ImageRef(path, stated=stated), OutputSpec("raw")) as image:
            assert by_catalog == image.depth, f"{path!r}: the catalog says {by_catalog}"
            return 0, image.read_at(0, 1)[0]
    except VdifsError as error:
        assert by_catalog == -error.errno, f"{path!r}: the catalog says {by_catalog}, opening {error.errno}: {error}"
        assert str(error).isprintable(), repr(error)
        return error.errno, None


def main() -> None:
    survey(sys.argv[1])  # what Python and numpy load late is loaded now
    os.access(BEGIN, os.F_OK)
    found = survey(sys.argv[1])
    os.access(END, os.F_OK)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
