"""Open images and files, who waits for whom, status. Knows trio, not FUSE."""
