"""VDI, the format of VirtualBox: dynamic, static and differencing images."""
