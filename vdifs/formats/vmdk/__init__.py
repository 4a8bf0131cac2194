"""VMDK: descriptors, hosted sparse files, what ESX keeps of snapshots, streams."""
