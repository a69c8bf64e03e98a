"""Parse command lines as the programs themselves do, and stop there: arguments, options, fields of the configuration, stages.

    parse_commands.py BENCHMARKS < LINES    both JSON; prints {line: message} of those that are refused

BENCHMARKS is the folder of the benchmarks. The programs are imported from where a user's current directory and PYTHONPATH
let them be found.
"""

import argparse
import json
import runpy
import shlex
import sys
from pathlib import Path
from unittest import mock

import typer

from tfwsss_pipelines import cli


class _Parsed(Exception):
    """The arguments are right."""


def _check(config=None, set_=None, work_dir=None, first=None, last=None, name=None, **others) -> None:
    if config is not None:
        runner = cli._runner(cli._load(config, set_, work_dir), config)
        for stage in filter(None, (first, last, name)):
            runner.index(stage)


def _commands(group) -> list:
    return [leaf for command in group.commands.values() for leaf in (_commands(command) if hasattr(command, "commands") else [command])]


def _parse_then_stop(parser, *arguments, parse=argparse.ArgumentParser.parse_args):
    parse(parser, *arguments)
    raise _Parsed


def parse(line: str, benchmarks: Path) -> None:
    """Raise whatever the program says to a wrong line."""
    program, *arguments = shlex.split(line)
    if program == "tfwsss":
        group = typer.main.get_command(cli.app)
        for command in _commands(group):
            command.callback = _check
        group.main(arguments, standalone_mode=False)
        return
    if program == "python":
        script, *arguments = arguments
        if script == "-m":  # from the repository's folder
            module, *arguments = arguments
            place, run = benchmarks.parent, lambda: runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            place, run = benchmarks, lambda: runpy.run_path(str(benchmarks / Path(script).name), run_name="__main__")
    else:
        from tfwsss_onnx.http_service.command import main as run

        place = Path.cwd()
    with mock.patch.object(sys, "path", [str(place), *sys.path]), mock.patch.object(argparse.ArgumentParser, "parse_args", _parse_then_stop), mock.patch.object(sys, "argv", [program, *arguments]):
        try:
            run()
        except _Parsed:
            return
    raise AssertionError("it does not read its arguments")


if __name__ == "__main__":
    wrong = {}
    for line in json.load(sys.stdin):
        try:
            parse(line, Path(sys.argv[1]))
        except (Exception, SystemExit) as error:
            wrong[line] = f"{type(error).__name__}: {error}"
    print(json.dumps(wrong))
