"""What the kernel offers and Python's os module lacks: system calls, locks, mounts, confinement. Knows no image."""
