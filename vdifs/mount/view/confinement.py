"""What a mounted daemon has given up, as its status tells it."""

from dataclasses import dataclass

__all__ = ["Confinement"]


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is in force, or would be. landlock: its ABI version, None without."""

    no_new_privs: bool = False
    landlock: int | None = None
    seccomp: bool = False

    def __str__(self) -> str:
        parts = {
            "no_new_privs": self.no_new_privs,
            f"Landlock (ABI {self.landlock})": self.landlock is not None,
            "seccomp": self.seccomp,
        }
        return ", ".join(name for name, there in parts.items() if there) or "nothing"
