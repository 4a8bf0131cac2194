"""The README: every example in it is run."""
