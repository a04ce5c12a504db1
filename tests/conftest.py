"""What holds for the whole suite."""

import os

import matplotlib as mpl
import pytest
from hypothesis import settings

mpl.use("Agg")  # no test opens a window
settings.register_profile("book", deadline=None, derandomize=True)  # no wall-clock limits, and the same cases each time
settings.load_profile("book")

_skipped: list[str] = []


def pytest_runtest_logreport(report):
    """Remember what was skipped, and why."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        _skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session):
    """In CI a skipped test is a failure: a missing oracle or browser must not look like success."""
    if os.environ.get("CI") and _skipped and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Say so where one looks."""
    if os.environ.get("CI") and _skipped:
        terminalreporter.section("skipped, which CI does not allow")
        terminalreporter.write_line("\n".join(_skipped))
