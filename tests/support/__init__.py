"""What tests of several rooms share: images and their builders, QEMU as the oracle, programs."""
