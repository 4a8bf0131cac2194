"""The compiled part: reads of open files that are answered without Python.

module.c        what Python calls: the type Plane, whose methods _core.pyi describes
plane.c         the threads between the kernel and libfuse
index.c         where the bytes of open files come from, as far as it was published
wire.c          the little of the FUSE protocol that is known here
attachment.py   putting a plane between the kernel and libfuse
"""
