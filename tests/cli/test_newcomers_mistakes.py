"""What people get wrong in their first ten minutes: each ends in one sentence that says what would be right."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from result_rows import put, result

from refine_batch.cli import main
from refine_batch.io.storage import Storage
from refine_batch.job import address

HEADER = "instance_id,mesh_uri,image_uri,azimuth,elevation,distance\n"
ROW = "a,a.obj,a.png,1,2,3\n"
FILES = {
    "good.csv": HEADER + ROW,
    "misspelt.csv": HEADER.replace("mesh_uri", "mesh_url") + ROW,
    "semicolons.csv": (HEADER + ROW).replace(",", ";"),
    "twice.csv": HEADER + ROW + ROW,
    "nameless.csv": HEADER + ROW.removeprefix("a"),
    "words.csv": HEADER + ROW.replace("1,", "left,"),
    "headings.csv": HEADER,
    "nothing-in-it.csv": "",
    "table.xlsx": "PK",
    "options.yaml": "stepps: 3\n",
    "broken.toml": "steps = \n",
    "data/notes.txt": "",
}

# What was typed, and what the answer must say.
MISTAKES = [
    ("rum good.csv new", ["'rum'", "did you mean run?"]),
    ("--steps 3 run good.csv new", ["--steps", "before a command", "run MANIFEST OUTPUT --steps"]),
    ("run good.csv", ["OUTPUT is missing", "refine-batch run MANIFEST OUTPUT"]),
    ("run good.csv new more", ["more"]),
    ("run good.csv new --stepps 3", ["--stepps", "--steps"]),
    ("run good.csv new --steps many", ["--steps", "'many'", "integer"]),
    ("run good.csv new --image-size 10000", ["--image-size", "'10000'", "2048"]),
    ("run good.csv new --actors two", ["--actors", "'two'", "'auto'"]),
    ("run good.csv new --max-failed-fraction 10%", ["--max-failed-fraction", "'10%'", "number"]),
    ("run good.csv new --method large_steps", ["'large_steps'", "did you mean large-steps?"]),
    ("run good.csv new --renderer wrap", ["'wrap'", "warp"]),
    ("run good.csv new --encoder-weights imagnet", ["'imagnet'", "imagenet"]),
    ("run good.csv new --set papr.sigma=1", ["papr.sigma", "did you mean paper.sigma?"]),
    ("run good.csv new --set sigma", ["KEY=VALUE"]),
    ("run good.csv new --config options.yaml", ["options.yaml", "'stepps'", "did you mean steps?"]),
    ("run good.csv new --config broken.toml", ["broken.toml", "not valid"]),
    ("run good.csv new --config absent.yaml", ["absent.yaml", "No such file"]),
    ("run absent.csv new", ["absent.csv", "no such file"]),
    ("run good.csv new --address nowhere.invalid:6379", ["--address", "nothing answers", "ray start --head"]),
    ("run data new", ["data", "no Parquet files"]),
    ("run table.xlsx new", ["table.xlsx", ".csv"]),
    ("run misspelt.csv new", ["misspelt.csv", "mesh_uri", "'mesh_url'"]),
    ("run semicolons.csv new", ["semicolons.csv", "separated by commas"]),
    ("run twice.csv new", ["'a'", "rows 1 and 2"]),
    ("run nameless.csv new", ["row 1", "instance_id"]),
    ("run words.csv new", ["azimuth", "row 1", "'left'"]),
    ("run headings.csv new", ["headings.csv", "no rows"]),
    ("run nothing-in-it.csv new", ["nothing-in-it.csv", "empty"]),
    ("run new good.csv", ["new"]),
    ("run good.csv misspelt.csv", ["misspelt.csv", "folder", "run MANIFEST OUTPUT"]),
    ("run s3:/bucket/good.csv new", ["s3:/bucket/good.csv", "two slashes"]),
    ("status good.csv", ["good.csv", "holds no results"]),
    ("status output/results", ["give the folder above", "output"]),
    ("report absent", ["absent", "holds no results", "refine-batch run"]),
    ("report output --out output/", ["output/", "report.html"]),
    ("report output --out data", ["data", "is a folder", "data/report.html"]),
    ("export output good.csv", ["good.csv", "is a file", "export OUTPUT DIRECTORY"]),
    ("export output meshes --format ojb", ["'ojb'", "'obj'"]),
    ("export output", ["DIRECTORY"]),
    ("validate data", ["data", "no Parquet files"]),
    ("manifest data --layout pix3D --meshes data --out m.csv", ["'pix3D'", "'pix3d'"]),
    ("synth new --count 0", ["--count", "0"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "data").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    put(Storage(str(folder / "output")), [result("a")])
    return folder


@pytest.mark.parametrize(("typed", "said"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_answered_with_what_would_be_right(folder, monkeypatch, typed, said):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(address, "ANSWERS_WITHIN", 0.2)
    before = files(folder)
    answer = CliRunner().invoke(main, typed.split())
    assert answer.exit_code == 2
    assert isinstance(answer.exception, SystemExit), "not a traceback"
    shown = answer.output.rpartition("Error: ")[2]
    assert shown.count("\n") == 1, "one sentence"
    for words in said:
        assert words in shown
    assert files(folder) == before, "nothing was started"


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())
