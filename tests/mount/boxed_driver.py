"""`driver`, in a process that reads one more format."""

import sys

from tests.mount import driver
from tests.support import boxed

if __name__ == "__main__":
    boxed.register()
    sys.exit(driver.main())
