from __future__ import annotations

import pytest

from pipeline.errors import NotebookError
from pipeline.notebook.source import check_names, keep_last_value, read_names


def check(*texts: str) -> None:
    check_names([(f"cell {number}", read_names(text)) for number, text in enumerate(texts, start=1)])


class TestNames:
    @pytest.mark.parametrize(
        "texts",
        [
            ("import numpy as np", "x = np.zeros(3)"),
            ("def f():\n    return later", "later = 1", "f()"),
            ("class A:\n    size = 3\n    def area(self): return self.size ** 2",),
            ("total = sum(n for n in range(3) if n)", "print(total, __name__, job_dir)"),
            ("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    print(error)",),
            ("with open('f') as file:\n    data = file.read()", "len(data)"),
            ("def f():\n    global made\n    made = 1", "f()\nprint(made)"),
            ("f = lambda x, *rest, y=1, **named: (x, rest, y, named)",),
            ("from math import *", "sqrt(2)"),
            ("x = 1", "x += 1"),
            ("if (n := 3) > 2:\n    print(n)",),
        ],
    )
    def test_cells_that_have_all_they_need(self, texts: tuple[str, ...]) -> None:
        check(*texts)

    @pytest.mark.parametrize(
        ("texts", "missing"),
        [
            (("y = x + 1",), "`x`"),
            (("def f():\n    return hidden",), "`hidden`"),
            (("import numpy", "np.zeros(3)"), "`np`"),
            (("[row for row in rows]",), "`rows`"),
            (("display(1)",), "`display`"),
            (("a + b",), "`a`, `b`"),
        ],
    )
    def test_a_missing_name_is_named_with_the_cell(self, texts: tuple[str, ...], missing: str) -> None:
        with pytest.raises(
            NotebookError, match=rf"cell {len(texts)} needs {missing}, which no packaged cell"
        ):
            check(*texts)

    def test_a_name_that_comes_too_late_is_another_error(self) -> None:
        with pytest.raises(NotebookError, match="cell 1 needs `x`, which a later cell defines"):
            check("y = x", "x = 1")

    def test_a_syntax_error_has_its_line(self) -> None:
        with pytest.raises(NotebookError, match=r"line 2: .* Received: 'def f\(:'"):
            read_names("x = 1\ndef f(:")

    @pytest.mark.parametrize("line", ["!pip install x", "%matplotlib inline", "len?"])
    def test_a_notebook_command_is_told_from_a_mistake(self, line: str) -> None:
        with pytest.raises(NotebookError, match=r"line 2: a job knows no notebook commands"):
            read_names(f"x = 1\n{line}")


class TestLastValue:
    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            ("x = 1\nx + 1", "x = 1\n_ml_result = (x + 1)"),
            ("f(1,\n  2)  # the end\n", "_ml_result = (f(1,\n  2))  # the end\n"),
            ("x = 1; x;", "x = 1; _ml_result = (x);"),
            ("é = 'ü'; é", "é = 'ü'; _ml_result = (é)"),
            ("x = 1", "x = 1"),
            ("for n in a:\n    n", "for n in a:\n    n"),
            ("", ""),
        ],
    )
    def test_only_an_expression_in_the_last_place_is_kept(self, text: str, kept: str) -> None:
        assert keep_last_value(text) == kept
