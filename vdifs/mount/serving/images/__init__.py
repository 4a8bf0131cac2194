"""Images that are open: opening one in a given state, sharing it, closing it, and the memory that all may take."""
