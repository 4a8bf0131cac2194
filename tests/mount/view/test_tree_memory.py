"""What an image costs in a mount that was listed (docs/specification.md 5.9): 1 KiB, and 128 bytes per inode."""

import gc
import os
import tracemalloc
from pathlib import Path

from tests.support.builder import write_blank
from vdifs.catalog.catalog import Catalog
from vdifs.mount.view.inodes import InodeTable
from vdifs.mount.view.nodes import Folder
from vdifs.mount.view.tree import Tree

FOLDERS, IMAGES = 20, 50


def fill(source: Path) -> None:
    for folder in range(FOLDERS):
        (source / f"vm{folder:03}").mkdir(parents=True)
        for number in range(IMAGES):
            below = (f"snapshot-{number - 1:03}.qcow2", "qcow2") if number % 5 else (None, None)
            write_blank(source / f"vm{folder:03}" / f"snapshot-{number:03}.qcow2", *below)


def list_all(tree: Tree, inodes: InodeTable, folder: Folder) -> None:
    for node in (tree.children(folder) or {}).values():
        inode = tree.inode(node)
        assert inode is not None
        inodes.hand_out(inode, node)
        if isinstance(node, Folder):
            list_all(tree, inodes, node)


def test_a_listed_image_takes_a_kibibyte_and_an_inode_128_bytes(tmp_path: Path) -> None:
    fill(tmp_path)
    for measured in (False, True):  # what is loaded and cached at the first time is no image's share
        gc.collect()
        tracemalloc.start()
        catalog = Catalog(os.fspath(tmp_path))
        try:
            catalog.scan()
            tree, inodes = Tree(catalog), InodeTable()
            list_all(tree, inodes, Folder("full"))
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0] - 128 * len(inodes)
        finally:
            catalog.close()
            tracemalloc.stop()
        assert len(catalog.entries) == FOLDERS * IMAGES
        assert not measured or taken / len(catalog.entries) < 1024, f"{taken / len(catalog.entries):.0f} bytes"
