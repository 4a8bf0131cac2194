"""What to do about an error, where whoever raised it could not say: the rules of a format know no user."""

import re

from vdifs.errors import FormatError, UnsupportedError, VdifsError

__all__ = ["with_remedy"]

_VERBS = (
    "allow ask check choose close commit convert correct give have install leave load look make mend mount name open "
    "rebase rename repair restore run see start state take try unmount use wait write"
).split()
_TELLS_WHAT_TO_DO = re.compile(rf"[:;,] (or )?({'|'.join(_VERBS)})\b|'qemu-img ")


def with_remedy(error: VdifsError) -> str:
    """Return the message, with what to do at its end."""
    text = str(error)
    match error:
        case _ if _TELLS_WHAT_TO_DO.search(text):
            return text
        case UnsupportedError():
            return f"{text}: convert it with 'qemu-img convert'"
        case FormatError() if "not a qcow2 image" in text:
            return f"{text}: name a qcow2 image, or a raw one called *.raw or *.img"
        case FormatError():
            return f"{text}: restore it from a copy, or see what 'qemu-img check' says"
        case _:
            return text
