"""The life of a daemon: what is told, logged, given up, taken away."""
