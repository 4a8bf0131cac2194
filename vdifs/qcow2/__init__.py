"""The format: bytes to values and back, after QEMU's docs/interop/qcow2. Pure: no file is opened here."""
