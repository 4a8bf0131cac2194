"""The life of a mount: background, supervisor, confinement, logs, unmounting."""
