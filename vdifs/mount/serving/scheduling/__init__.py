"""Work beside the event loop: background tasks, threads under a deadline, and whose turn it is to work hard."""
