"""The files: policy, permissions, layers and chains."""
