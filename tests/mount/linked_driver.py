"""`driver`, in a process that reads one more format, whose images know one another by identity."""

import sys

from tests.mount import driver
from tests.support import linked

if __name__ == "__main__":
    linked.register()
    sys.exit(driver.main())
