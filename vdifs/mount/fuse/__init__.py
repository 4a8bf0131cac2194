"""The pyfuse3 adapter: requests of the kernel in, answers out."""
