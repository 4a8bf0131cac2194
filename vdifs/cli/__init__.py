"""The command line: arguments in, human text or JSON out, one line and an exit status on failure.

The only room that knows click and rich. A command's module is imported when that command is called, so that
`vdifs --version` and `vdifs info` do not wait for what only a mount needs.
"""
