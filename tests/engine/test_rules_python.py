"""The user's own rule: what it may return, and errors that say where to look."""

from pathlib import Path

import pytest

from engine.data.rows import Message, Row, from_messages
from engine.data.rules.python import Python
from engine.data.rules.row import Verdict
from engine.errors import UserError
from engine.sections.data import PythonRule


def made(folder: Path, code: str, function: str = "rule", shape: str = "pair") -> Python:
    (folder / "mine.py").write_text(code)
    return Python(PythonRule(file=str(folder / "mine.py"), function=function), shape)


def returning(folder: Path, expression: str, shape: str = "pair") -> Python:
    return made(folder, f"def rule(prompt, completion):\n    return {expression}\n", shape=shape)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("None", Row("a", "b")),
        ("True", Row("a", "b")),
        ("False", Verdict("python", "")),
        ("''", Verdict("python", "")),
        ("'too dull'", Verdict("python", "too dull")),
        ("prompt.upper(), completion * 2", Row("A", "bb")),
        ("[prompt, '']", Row("a", "")),
        ("__import__('numpy').bool_(True)", Row("a", "b")),
        ("__import__('numpy').bool_(False)", Verdict("python", "")),
    ],
)
def test_answers(tmp_path: Path, expression: str, answer: Row | Verdict) -> None:
    assert returning(tmp_path, expression)(Row("a", "b")) == answer
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("3", "int 3"),
        ("(prompt,)", "tuple"),
        ("(prompt, completion, 1)", "tuple"),
        ("(prompt, None)", "tuple"),
        ("{}", "dict {}"),
        ("('\\ud800', '')", "half of a surrogate pair"),
    ],
)
def test_anything_else_is_an_error(tmp_path: Path, expression: str, what: str) -> None:
    with pytest.raises(UserError, match=r"mine\.py: rule\(\) returned ") as error:
        returning(tmp_path, expression)(Row("Banjo", "b"))
    assert what in str(error.value) and "'Banjo'" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_rest_of_a_row_stays(tmp_path: Path) -> None:
    rule = returning(tmp_path, "prompt + '!', completion + '?'")
    assert rule(Row("a", "b", "c", "d")) == Row("a!", "b?", "c", "d")
    talk = from_messages((Message("system", "s"), Message("user", "a"), Message("assistant", "b")))
    changed = (Message("system", "s"), Message("user", "a!"), Message("assistant", "b?"))
    assert rule(talk) == from_messages(changed)


def test_rows_without_a_prompt(tmp_path: Path) -> None:
    alone = from_messages((Message("assistant", "b"),))
    fine = returning(tmp_path, "prompt, completion + '?'", "text")
    assert fine(Row("", "b")) == Row("", "b?")
    assert fine(alone) == from_messages((Message("assistant", "b?"),))
    wrong = returning(tmp_path, "'a', completion", "text")
    for row in (Row("", "b"), alone):
        with pytest.raises(UserError, match="which has none"):
            wrong(row)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def rule(p, c)\n    pass\n", r"mine\.py:1: expected ':'"),
        ("x = 1\n\ny = 1 / 0\n", r"mine\.py:3: cannot be run: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", r"mine\.py:1: cannot be run: SystemExit: 3"),
        ("import nowhere_at_all", r"mine\.py:1: cannot be run: ModuleNotFoundError: No module"),
        ("def other(p, c): pass\n", r"mine\.py: no function 'rule' .*; there are: other"),
        ("rule = 3", r"mine\.py: no function 'rule' "),
        ("x = '\\0'\0", r"mine\.py"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, code)


def test_no_such_file(tmp_path: Path) -> None:
    for name in ("nowhere.py", "."):
        with pytest.raises(UserError, match=r"\(clean\.python\.file\)"):
            Python(PythonRule(file=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return len(completion) / 0", r"mine\.py:5: check\(\) raised ZeroDivisionError: division"),
        ("return deep(prompt)", r"mine\.py:2: check\(\) raised KeyError: 'Banjo'"),
        ("import sys; sys.exit(2)", r"mine\.py:5: check\(\) raised SystemExit: 2"),
        (
            "import json; json.loads('{')",
            r"mine\.py:5: check\(\) raised JSONDecodeError: Expecting",
        ),
        ("raise ValueError('two\\nlines')", r"mine\.py:5: check\(\) raised ValueError: two lines"),
    ],
)
def test_an_exception_at_a_row(tmp_path: Path, body: str, message: str) -> None:
    code = f"def deep(p):\n    return {{}}[p]\n\ndef check(prompt, completion):\n    {body}\n"
    with pytest.raises(UserError, match=message) as error:
        made(tmp_path, code, "check")(Row("Banjo", "b"))
    assert str(error.value).endswith("at the row whose prompt is 'Banjo'")


def test_what_it_prints_is_not_in_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = made(tmp_path, "print('made')\ndef rule(p, c):\n    print(p, file=None)\n")
    assert rule(Row("a", "b")) == Row("a", "b")
    assert capsys.readouterr() == ("", "made\na\n")
