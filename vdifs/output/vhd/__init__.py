"""Synthetic VHDs, dynamic and fixed: docs/formats.md, VHD, and "Writing"."""
