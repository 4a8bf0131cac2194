"""Everything QEMU can write, crossed with everything that can be asked about it, and proved by QEMU."""
