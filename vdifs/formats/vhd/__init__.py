"""VHD, which QEMU calls vpc: fixed, dynamic and differencing images."""
