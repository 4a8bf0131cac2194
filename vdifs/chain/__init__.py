"""From names to open chains: which files may be opened, what they name, how layers lie on one another."""
