"""QEMU is the oracle: it makes the images when a test runs, and it judges what vdifs makes of them."""
