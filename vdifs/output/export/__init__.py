"""A synthetic file into a real one, or into a pipe."""
