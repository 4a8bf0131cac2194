"""The names of a mount: tree, numbers, attributes."""
