"""What the kernel offers."""
