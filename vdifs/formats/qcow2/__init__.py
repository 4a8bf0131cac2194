"""The qcow2 format, after QEMU's docs/interop/qcow2: bytes to values and back, and the layer that reads them."""
