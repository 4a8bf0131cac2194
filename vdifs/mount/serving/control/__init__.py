"""The files of `.vdifs`: the status of the mount, and what is told of each image."""
