"""What is told of an image that is not as it should be: values, of which one line is made in one place."""

import errno

from vdifs.errors import FormatError, StorageError, message_of
from vdifs.formats.problems import Problem, Severity, failed, of_file


def test_the_problem_that_an_error_tells_of_keeps_what_where_and_remedy_apart_and_says_the_same() -> None:
    for error in (
        FormatError("cut short", where="/a", remedy="restore it"),
        FormatError("damaged"),
        StorageError("gone", where="/a", errno=errno.ENOENT),
    ):
        for problem in (failed("a", error), Problem.of("a", Severity.WARNING, "kind", error)):
            assert (problem.what, problem.where, problem.remedy) == (error.what, error.where, error.remedy)
            assert problem.message == str(error)


def test_a_problem_of_a_file_names_it_and_need_have_no_remedy() -> None:
    tell = of_file("/images/a", "a")
    assert tell(Severity.NOTE, "hidden", "hidden").message == "/images/a: hidden"
    dirty = tell(Severity.WARNING, "dirty", "marked dirty", "repair it")
    assert (dirty.path, dirty.where, dirty.remedy) == ("a", "/images/a", "repair it")
    assert dirty.message == message_of("marked dirty", "/images/a", "repair it") == "/images/a: marked dirty: repair it"
