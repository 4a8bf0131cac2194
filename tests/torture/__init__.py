"""Proves the promises of vdifs by trying to break them; started by `scripts/torture`."""
