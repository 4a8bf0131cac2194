"""From names to open chains: which files may be opened, what a directory holds, how layers lie on one another."""
