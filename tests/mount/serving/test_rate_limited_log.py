"""Warnings about sources: each once in a while, and each kind by itself."""

import logging
import time

import pytest

from tests.conftest import ExpectWarning
from vdifs.errors import StorageError
from vdifs.mount.serving.rate_limited_log import REPEAT_S, RateLimitedLog


def test_the_same_warning_comes_again_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, expect_warning: ExpectWarning
) -> None:
    expect_warning("disk")
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    warnings = RateLimitedLog()

    def logged(*messages: str) -> list[str]:
        caplog.clear()
        for message in messages:
            warnings.log(StorageError(message))
        return [record.getMessage().partition(":")[0] for record in caplog.records]

    with caplog.at_level(logging.WARNING, "vdifs"):
        assert logged("disk 1: fails", "disk 1: fails", "disk 2: fails", "disk 1: fails") == ["disk 1", "disk 2"]
        now[0] += REPEAT_S - 1
        assert logged("disk 1: fails") == []
        now[0] += 2
        assert logged("disk 1: fails", "disk 1: fails") == ["disk 1"]
