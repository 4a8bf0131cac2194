"""A synthetic qcow2 into a file in which every cluster is packed."""
