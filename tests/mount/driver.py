"""Mounts and unmounts for the tests, in a process of its own: `driver mount OPTIONS_AS_JSON`, `driver umount PATH`,
`driver umount-lazily PATH`."""

import json
import sys
from typing import Any

from vdifs.errors import VdifsError
from vdifs.mount.daemon.mount import MountOptions, mount, umount


def main() -> int:
    command, argument = sys.argv[1:]
    try:
        if command == "mount":
            options: dict[str, Any] = {
                key: tuple(v) if isinstance(v, list) else v for key, v in json.loads(argument).items()
            }
            mount(MountOptions(**options))
        else:
            umount(argument, lazy=command == "umount-lazily")
    except VdifsError as error:
        print(f"vdifs: {error}", file=sys.stderr)  # noqa: T201 - what the command line would print
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
