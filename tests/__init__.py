"""Tests of vdifs. They mirror the packages; `qemu/` asks QEMU, `mount/` mounts for real."""
