"""What needs no dataset: help, versions and misspelt names."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from refine_batch.cli import main
from refine_batch.cli.group import COMMANDS


def invoke(*arguments):
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_options_of_a_run_stand_once_each_under_headings():
    shown = invoke("run", "--help").output
    headings = [line for line in shown.splitlines() if re.fullmatch(r"[A-Z][^:]*:", line)]
    assert headings == ["What the results depend on:", "How and where it is run:", "Further options:"]
    sections = re.split(r"^[A-Z][^:\n]*:\n", shown, flags=re.MULTILINE)[1:]
    at = {
        name: [n for n, text in enumerate(sections) if re.search(rf"^  {name}\b", text, re.MULTILINE)]
        for name in ("--steps", "--drop-pieces", "--actors", "--s3-endpoint", "--config", "--json")
    }
    assert at == {
        "--steps": [0],
        "--drop-pieces": [0],
        "--actors": [1],
        "--s3-endpoint": [1],
        "--config": [2],
        "--json": [2],
    }


def test_every_option_has_help():
    for command in COMMANDS:
        for option in main.get_command(None, command).params:
            assert option.param_type_name == "argument" or option.help, f"{command} {option.name}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "did you mean run?"),
        (["frobnicate"], "there is no command 'frobnicate'"),
        (["run", "m.csv", "out", "--step", "3"], "--steps"),
        (["run"], "MANIFEST is missing"),
        (["run", "m.csv"], "OUTPUT is missing"),
        (["run", "m.csv", "out", "--steps", "0"], "--steps is '0'"),
        (["run", "m.csv", "out", "--set", "papr.sigma=1"], "did you mean paper.sigma?"),
        (["export", "out", "dir", "--format", "stl"], "'stl'"),
        (["synth", "dir", "--count", "0"], "--count"),
    ],
)
def test_mistakes_end_with_status_2_and_a_sentence(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_print_config_needs_no_manifest():
    result = invoke("run", "--print-config", "--steps", "12")
    assert result.exit_code == 0
    assert "steps: 12" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['refine-batch', '--help']\n"
        "from refine_batch.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'ray', 'pyarrow', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_job_entry_point_is_run():
    done = subprocess.run([sys.executable, "jobs/refine.py", "--help"], capture_output=True, text=True, check=True)
    assert "MANIFEST OUTPUT" in done.stdout.replace("[", "").replace("]", "")
