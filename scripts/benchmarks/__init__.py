"""The benchmarks behind `scripts/bench`: vdifs against its peers, each figure a ratio taken in the same run."""
