"""The README and the pages in docs/: every example in them is run, and what is cited is there."""
