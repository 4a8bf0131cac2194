"""Open files: what they hold, and when they have changed."""
