"""`driver` with few open files: `limited COUNT mount OPTIONS_AS_JSON`."""

import resource
import sys

from tests.mount.driver import main

if __name__ == "__main__":
    count = int(sys.argv.pop(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    sys.exit(main())
