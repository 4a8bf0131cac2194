"""The mount: its parts without one, then real mounts of real images."""
