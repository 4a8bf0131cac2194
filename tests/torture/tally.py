"""What a section tried, and what went wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Finding", "Kind", "Tally"]


class Kind(StrEnum):
    """What can go wrong. BROKEN: any other promise."""

    WRONG = "wrong bytes"
    CRASH = "crash"
    HANG = "hang"
    MEMORY = "memory"
    BROKEN = "broken promise"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that went wrong. what: with the seed, offset or event that leads there again."""

    kind: Kind
    what: str


@dataclass(slots=True)
class Tally:
    """The result of a section. tried: in the section's unit. facts: counts and measurements worth telling."""

    tried: int = 0
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def found(self, kind: Kind, what: str) -> None:
        """Note that something went wrong."""
        self.findings.append(Finding(kind, what))

    def add(self, fact: str, count: float = 1) -> None:
        """Count something that is not wrong."""
        self.facts[fact] = self.facts.get(fact, 0) + count

    def most(self, fact: str, value: float) -> None:
        """Keep the largest of several measurements."""
        self.facts[fact] = max(self.facts.get(fact, value), value)

    def count(self, kind: Kind) -> int:
        """Return how many findings are of a kind."""
        return sum(finding.kind is kind for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "tried": self.tried,
            "seconds": round(self.seconds, 1),
            "wrong": {str(kind): self.count(kind) for kind in Kind},
            "findings": [{"kind": str(finding.kind), "what": finding.what} for finding in self.findings],
            "facts": self.facts,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Tally":
        """Return what `as_json` was made from."""
        findings = [Finding(Kind(each["kind"]), each["what"]) for each in value["findings"]]
        return cls(value["tried"], findings, dict(value["facts"]), value["seconds"])
