"""Everything QEMU can write, and everything that can be asked about it: crossed with one another, and proved by QEMU."""
