"""The qcow2 format: bytes, values, and the layer that reads them."""
