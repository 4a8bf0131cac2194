"""docs/qcow2.md, line by line: an image that breaks or exercises each rule, and what vdifs and QEMU make of it."""
