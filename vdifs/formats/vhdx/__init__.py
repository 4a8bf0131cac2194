"""The VHDX format (docs/formats.md, VHDX): bytes to values, an unclean log replayed in memory, and the layer."""
