"""The mount: the tree of names, the FUSE operations, the life of the daemon. The only async code."""
