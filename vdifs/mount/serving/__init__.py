"""What the mount answers: names, open files, what is known of the source. Knows trio, not FUSE."""
