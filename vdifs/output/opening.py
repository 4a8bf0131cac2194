"""Opening a synthetic file: the chain of an image, and the output that a spec asks for."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

from vdifs.chain.links import ImageRef
from vdifs.chain.members import damage_only_if_unchanged
from vdifs.chain.naming import ImageName, base_index
from vdifs.chain.open_chain import Chain
from vdifs.chain.paired_chain import PairedChain
from vdifs.chain.policy import Policy
from vdifs.errors import InUseError, SourceChangedError, UsageError
from vdifs.output.image import Image
from vdifs.output.protocol import Output, Plan, ResolvedSpec
from vdifs.output.qcow2.output import Qcow2Output
from vdifs.output.raw import RawOutput
from vdifs.output.spec import OutputSpec
from vdifs.output.vhd.dynamic import DynamicVhdOutput
from vdifs.output.vhd.fixed import FixedVhdOutput
from vdifs.output.view import View
from vdifs.output.vmdk.output import VmdkOutput

__all__ = ["OUTPUTS", "open_image"]

OUTPUTS: Mapping[View, Plan] = {
    "qcow2": Qcow2Output,
    "raw": RawOutput,
    "vhd": DynamicVhdOutput,
    "vhd-fixed": FixedVhdOutput,
    "vmdk": VmdkOutput,
}
"""What plans the output of each view."""

_MIN_EXTENDED_BITS = 14
_LOAD_TRIES = 3
_ETAG_VERSION = 2


def open_image(
    policy: Policy, image: ImageRef, spec: OutputSpec, open_base: Callable[[], Chain] | None = None
) -> Image:
    """Open an image as the synthetic file that `spec` asks for. Blocks; afterwards everything is known but its data.

    open_base: opens the chain of the base where that is no ancestor of the image; None where it must be one.

    Raises UsageError for a spec that does not fit the image, InUseError for sources that do not stop changing, and what
    Chain.open does.
    """
    for _ in range(_LOAD_TRIES - 1):
        with suppress(SourceChangedError):
            return _open_once(policy, image, spec, open_base)
    try:
        return _open_once(policy, image, spec, open_base)
    except SourceChangedError as error:
        what, remedy = f"{error}; it kept changing while it was opened", "wait until its writer is done"
        raise InUseError(what, remedy=remedy) from error


def _open_once(policy: Policy, image: ImageRef, spec: OutputSpec, open_base: Callable[[], Chain] | None) -> Image:
    with ExitStack() as stack:
        chain = stack.enter_context(Chain.open(policy, image.path, image.snapshot, stated=image.stated))
        base = None if spec.base is None else _index_of(chain, spec.base)
        if spec.base is not None and base is None:
            if open_base is None:
                base = chain.index_of(str(spec.base))  # which says that it is none
            else:
                chain = pair = PairedChain(chain, stack.enter_context(open_base()))
                base = pair.base
        resolved = _resolved(chain, base, spec)
        with damage_only_if_unchanged(*chain.files):
            output = OUTPUTS[spec.view](resolved)
        chain.check_unchanged()
        stack.pop_all()
    return Image(chain, output, _etag(spec.view, resolved, output))


def _resolved(chain: Chain, base: int | None, spec: OutputSpec) -> ResolvedSpec:
    bits = _cluster_bits(chain, spec.cluster_size)
    if spec.extended_l2 and bits < _MIN_EXTENDED_BITS:
        what = f"extended L2 entries need clusters of 16384 bytes or more, not {1 << bits}"
        raise UsageError(what, remedy="ask for larger ones")
    return ResolvedSpec(chain, base, bits, spec.extended_l2, spec.backing_name, spec.backing_format, spec.packed)


def _index_of(chain: Chain, base: str | ImageName) -> int | None:
    """Return the index of an ancestor, or the image itself; None for another image."""
    if isinstance(base, ImageName):
        return base_index(chain, base)
    return next((index for index, member in enumerate(chain.members) if member.path == base), None)


def _cluster_bits(chain: Chain, cluster_size: int | None) -> int:
    if cluster_size is not None:
        return cluster_size.bit_length() - 1
    return chain.members[0].metadata.cluster_bits


def _etag(view: View, spec: ResolvedSpec, output: Output) -> str:
    """Return a hash of what determines the bytes. Another order or version of these parts changes every etag."""
    chain = spec.chain
    sources = (each.anywhere for each in chain.fingerprints)
    base = spec.base if spec.base is None or not chain.paired else (spec.base, chain.members[spec.base].snapshot)
    parts = (_ETAG_VERSION, view, chain.members[0].snapshot, base, *output.etag_parts, *sources)
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
