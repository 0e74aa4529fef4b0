"""Which packages travel as wheels."""

from pipeline.bootstrap.requirements import parse_requirements
from pipeline.notebook.wheels import ON_THE_IMAGE, needed_pins


def test_what_a_run_needs_travels_with_what_that_needs_except_what_must_stay_as_it_is(project):
    names = {pin.partition("==")[0] for pin in needed_pins()}
    lines = parse_requirements((project / "requirements.txt").read_text())
    wanted = {line.name for line in lines if not line.is_for_tests} - set(ON_THE_IMAGE)
    assert wanted <= names and {"albucore", "stringzilla", "huggingface-hub"} <= names
    assert not names & {"torch", "numpy", "triton", "opencv-python", "pytest"}
    search = {pin.partition("==")[0] for pin in needed_pins(["optuna"])}
    assert "optuna" not in names and {"optuna", "sqlalchemy", "alembic"} <= search and names <= search
    assert all(pin.count("==") == 1 and "+" not in pin for pin in needed_pins())
