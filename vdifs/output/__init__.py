"""The virtual output: which clusters a synthetic file has, where they lie, their bytes."""
