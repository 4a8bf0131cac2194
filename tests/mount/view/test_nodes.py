"""What messages call the nodes of the tree."""

import pytest

from vdifs.mount.view.nodes import Folder, ImageFile, Node, Sidecar, StatusFile


@pytest.mark.parametrize(
    ("node", "called"),
    [
        (ImageFile("a/b.qcow2"), "a/b.qcow2"),
        (ImageFile("a/b.qcow2", "base.qcow2"), "a/b.qcow2"),
        (ImageFile("a/b.qcow2", view="raw"), "a/b.qcow2"),
        (Sidecar("map", "a/b.qcow2"), "a/b.qcow2"),
        (StatusFile(), ".vdifs/status.json"),
        (Folder("delta/base.qcow2/a", "base.qcow2"), "delta/base.qcow2/a"),
        (Folder(""), "/"),
    ],
    ids=repr,
)
def test_what_is_of_an_image_is_called_by_its_path_and_all_else_by_its_own(node: Node, called: str) -> None:
    assert str(node) == called
