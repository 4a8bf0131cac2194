"""Real mounts of real images; the folders below have the floors of a mount, each without those above it."""
