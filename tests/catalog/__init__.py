"""From names to open chains: policy, permissions, catalogs, layers."""
