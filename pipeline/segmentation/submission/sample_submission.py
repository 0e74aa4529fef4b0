"""Whether the sample submission speaks of the test images and the classes that we know.

A sample of another version of the data would otherwise be noticed only when the upload is refused.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.competition import Competition, Convention
from pipeline.data.csv_file import read_csv
from pipeline.data.problems import Problem, make_problem


def check_sample(competition: Competition, path: Path, test_ids: set[str]) -> list[Problem]:
    """Returns what is wrong with the sample submission: unknown, double or missing rows.

    Which classes have rows is the sample's choice (CamVid's includes Void), but it must be the same for every image.
    """
    file, convention = path.name, competition.convention
    columns = {convention.id_column: "CONVENTION.ID_COLUMN", convention.value_column: "CONVENTION.VALUE_COLUMN"}
    columns |= {convention.class_column: "CONVENTION.CLASS_COLUMN"} if convention.class_column else {}
    rows, problems = read_csv(path, file, columns, competition.name, "SAMPLE_SUBMISSION")
    if not rows or not test_ids:
        return problems
    class_numbers = {str(number + convention.class_base) for number in range(len(competition.classes))}
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows:
        id, number = _parts(row, convention)
        if id not in test_ids or (number not in class_numbers and convention.rows != "id"):
            problems.append(
                make_problem("sample row unknown", file, f"line {line}: {', '.join(_shown(row, convention))}")
            )
        elif (id, number) in seen:
            found = f"{', '.join(_shown(row, convention))} in lines {seen[id, number]} and {line}"
            problems.append(make_problem("sample row twice", file, found))
        else:
            seen[id, number] = line
    return problems + _missing(file, test_ids, seen)


def _missing(file: str, test_ids: set[str], seen: dict[tuple[str, str], int]) -> list[Problem]:
    numbers = {number for _, number in seen}
    problems = []
    for id in sorted(test_ids):
        lacking = sorted(
            (number for number in numbers if (id, number) not in seen), key=lambda number: (len(number), number)
        )
        if len(lacking) == len(numbers):
            problems.append(make_problem("sample row missing", file, f"{id}: no row"))
        elif lacking:
            problems.append(make_problem("sample row missing", file, f"{id}: no row for class {', '.join(lacking)}"))
    return problems


def _parts(row: dict[str, str], convention: Convention) -> tuple[str, str]:
    """Returns (image id, class number as text; "" where a row stands for the whole image)."""
    name = row[convention.id_column]
    if convention.rows == "id_class":
        id, _, number = name.rpartition("_")
        return id, number
    return name, row[convention.class_column] if convention.class_column else ""


def _shown(row: dict[str, str], convention: Convention) -> list[str]:
    return [row[column] for column in (convention.id_column, convention.class_column) if column]
