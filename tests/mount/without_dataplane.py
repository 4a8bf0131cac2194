"""`driver` with a data plane that leaves every read to Python."""

import os
import sys

from tests.mount import driver
from vdifs.mount.fuse.session import SWITCH

if __name__ == "__main__":
    os.environ[SWITCH] = "off"
    sys.exit(driver.main())
