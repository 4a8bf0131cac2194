"""The pyfuse3 adapter, without a kernel."""
