"""What `vdifs info` says of an image in words. Pure: a description in, fields out."""

from vdifs.report.info import Described
from vdifs.wording import size_text, size_with_bytes

__all__ = ["info_fields"]


def info_fields(image: Described) -> dict[str, object]:
    """Return a name and a value for each line."""
    fields: dict[str, object] = {"image": image.name, "file format": image.format}
    if image.description.label is not None:
        fields["snapshot"] = image.description.label
    fields["virtual size"] = size_with_bytes(image.description.virtual_size)
    fields["file length"] = size_with_bytes(image.file_length)
    fields["disk size"] = size_text(image.disk_size)
    fields |= image.description.fields(image.full_backing_name)
    for number, warning in enumerate(image.warnings, 1):
        fields["warning" if len(image.warnings) == 1 else f"warning {number}"] = warning
    return fields
