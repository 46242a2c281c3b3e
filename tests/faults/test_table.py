"""The fault table itself: README has it as it is, and no two rows say the same."""

from __future__ import annotations

from collections import Counter

from tests.faults import table


def test_readme_has_the_table_of_now() -> None:
    readme = table.README.read_text(encoding="utf-8")
    assert table.BEGIN in readme
    assert readme == table.updated(readme), "run: python -m tests.faults.table"


def test_every_group_has_rows_and_every_situation_one_outcome() -> None:
    rows = table.rows()
    assert {row.group for row in rows} == set(table.GROUPS)
    outcomes = Counter((row.group, row.situation) for row in set(rows))
    assert [situation for situation, count in outcomes.items() if count > 1] == []
