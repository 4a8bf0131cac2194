"""What a mount answers, without FUSE: open files, numbers, searches, work beside the event loop."""
