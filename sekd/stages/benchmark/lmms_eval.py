"""lmms-eval as a process in an environment of its own; sekd never imports it.

What is said here of lmms-eval is true of version 0.7.3. There a failed evaluation may end with exit
code 0. So an evaluation counts as done only if there is a results file, which is written after
everything else but the samples.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.config import BenchmarkSpec, ModelSpec
from sekd.errors import ConfigError, ShardError
from sekd.io.files import remove, replace_atomically
from sekd.models import OFFLINE_BY_SEKD

logger = logging.getLogger(__name__)

TESTED_VERSION = "0.7.3"

OWN_MODEL = "transformers"
"""The model class in ``plugin/``, which lmms-eval finds by its entry point on the Python path."""

_GUARD = Path(__file__).with_name("guard.py")
_PLUGIN = Path(__file__).parent / "plugin"
_PATH_ARGUMENT = {"vllm": "model", "vllm_generate": "model", "sglang": "model"}
_TAKES_REMOTE_CODE = {OWN_MODEL, "vllm", "vllm_generate", "sglang"}
"""Classes with an argument ``trust_remote_code``; lmms-eval's own classes set it by default."""

_PRINT_VERSIONS = """\
import importlib.metadata as m, json
versions = {}
for name in ("lmms_eval", "torch", "transformers", "vllm", "filelock"):
    try:
        versions[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""
_NEWER_THAN_IT_BEARS = {"filelock": 4}
"""Package -> the first major version whose modules lmms-eval 0.7.3 looks for and does not find."""
_MAX_LINES = 400  # of its output, the last ones
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_IMPORT_FAILED = re.compile(r"(ModuleNotFoundError|ImportError)\b")
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt)\b")
_PROGRESS = re.compile(r"\d+%\||\d+it \[|\[\d+:\d+")


@dataclass(frozen=True)
class LmmsEval:
    """An installed lmms-eval.

    Attributes:
        python: the interpreter of its environment.
        versions: of lmms_eval, torch, transformers and, if it is installed, vllm.
    """

    python: Path
    versions: Mapping[str, str]

    @classmethod
    def find(cls, python: Path | None) -> LmmsEval:
        """Find the lmms-eval that ``python``, or else the running Python, can import.

        Raises:
            ConfigError: if there is none; the message says how to make an environment for it.
        """
        python = python or Path(sys.executable)
        try:
            command = [str(python), "-c", _PRINT_VERSIONS]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            versions = json.loads(done.stdout)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise ConfigError(
                f"benchmark.python {python}: not a working python: {error}"
            ) from error
        if "lmms_eval" not in versions:
            raise ConfigError(
                f"{python}: no lmms-eval there; make it an environment of its own: "
                f"python -m venv lmms && lmms/bin/pip install lmms-eval=={TESTED_VERSION} "
                "'transformers>=5.16.1,<5.20' 'filelock<4', then "
                "--set benchmark.python=lmms/bin/python"
            )
        _refuse_newer_packages(python, versions)
        named = ("lmms_eval", "torch", "transformers", "vllm")  # the figures depend on these
        return cls(python, {name: versions[name] for name in named if name in versions})

    def run(
        self,
        task: str,
        model: Path,
        spec: BenchmarkSpec,
        model_spec: ModelSpec,
        folder: Path,
        on_progress: Callable[[str], None],
    ) -> None:
        """Evaluate one task and leave what it wrote in ``folder``, which is whole once it is there.

        ``results.json`` is lmms-eval's; ``samples-<task>.jsonl`` has a line per sample, for each
        task where ``task`` is a group.

        Args:
            model: directory of a model that needs no adapter.
            on_progress: is called with each line of a progress bar; the log gets all lines.

        Raises:
            ShardError: if it failed; the message has its last error line.
            ConfigError: if an argument holds a comma, which lmms-eval could not parse, or a
                package of its environment cannot be imported.
        """
        with replace_atomically(folder) as temporary:
            temporary.mkdir()
            options = arguments(task, model, spec, model_spec, temporary)
            command = [str(self.python.absolute()), *options]
            logger.debug("running %s", command)
            code, lines = _stream(command, on_progress)
            results = list(temporary.rglob("*_results.json"))
            if code != 0 or len(results) != 1:
                error = last_error(lines)
                if _IMPORT_FAILED.match(error):  # the next evaluation would end in the same way
                    raise ConfigError(f"{self.python}: lmms-eval does not work there: {error}")
                raise ShardError(f"lmms-eval {_describe_exit(code)}: {error}")
            prefix = results[0].name.removesuffix("results.json")
            for path in results[0].parent.glob(f"{prefix}samples_*.jsonl"):
                name = path.name.removeprefix(f"{prefix}samples_")
                path.rename(temporary / f"samples-{name}")
            results[0].rename(temporary / "results.json")
            for path in temporary.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
            remove(folder)  # an earlier result gives way to this one


def _refuse_newer_packages(python: Path, versions: Mapping[str, str]) -> None:
    """Refuse what would end every evaluation after minutes, before the first one starts."""
    if versions["lmms_eval"] != TESTED_VERSION:
        return  # another version may bear other packages
    for package, limit in _NEWER_THAN_IT_BEARS.items():
        version = versions.get(package, "0")
        if int(version.partition(".")[0]) >= limit:
            raise ConfigError(
                f"{python}: {package} {version} is newer than lmms-eval {TESTED_VERSION} bears; "
                f"{python} -m pip install '{package}<{limit}'"
            )


def arguments(
    task: str, model: Path, spec: BenchmarkSpec, model_spec: ModelSpec, output: Path
) -> list[str]:
    """Return the arguments after ``python``: the same for base and student but for two directories.

    Raises:
        ConfigError: if a value holds a comma, at which lmms-eval would cut it.
    """
    model_args: dict[str, Any] = {_PATH_ARGUMENT.get(spec.model, "pretrained"): model.absolute()}
    if spec.model in _TAKES_REMOTE_CODE:
        model_args["trust_remote_code"] = model_spec.trust_remote_code
    if spec.model == OWN_MODEL:
        model_args["dtype"] = model_spec.dtype
        if model_spec.processor_args:
            model_args["processor_args"] = json.dumps(model_spec.processor_args)
    model_args |= spec.model_args
    for name, value in {"run_dir": output.absolute(), **model_args}.items():
        if "," in str(value) and not str(value).startswith("{"):
            raise ConfigError(
                f"benchmark: lmms-eval would cut {name}={value} at the comma; give it another "
                "name or a link without one"
            )
    values = {
        "--model": spec.model,
        "--model_args": ",".join(f"{name}={value}" for name, value in model_args.items()),
        "--tasks": task,
        "--batch_size": spec.batch_size,
        "--seed": spec.seed,
        "--output_path": output.absolute(),
        "--limit": spec.limit,
        "--num_fewshot": spec.num_fewshot,
        "--include_path": spec.include_path.absolute() if spec.include_path else None,
    }
    options = ["-m", "lmms_eval"]
    for name, value in values.items():
        if value is not None:
            options += [name, str(value)]
    return [*options, "--log_samples"]


def _stream(command: list[str], on_progress: Callable[[str], None]) -> tuple[int, list[str]]:
    """Run to the end and return the exit code and the last lines.

    No process is left behind, however this one ends: ``guard.py`` sees that its pipe is closed.
    """
    path = [str(_PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "TQDM_MININTERVAL": "5",  # each time that a progress bar is drawn it is a line of our log
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
    }
    if OFFLINE_BY_SEKD:  # lmms-eval downloads the data of its tasks
        environment.pop("HF_HUB_OFFLINE", None)
    lines: deque[str] = deque(maxlen=_MAX_LINES)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, str(_GUARD), *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for output in process.stdout:
            line = _COLOURS.sub("", output).strip()
            if line:
                lines.append(line)
                logger.debug("%s", line)
                if _PROGRESS.search(line):
                    on_progress(line)
        return process.wait(), list(lines)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and its workers, if it started some
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"was killed by signal {-code}"
    return f"failed with exit code {code}" if code else "wrote no results"


def last_error(lines: Iterable[str]) -> str:
    """Return the last line with an exception, or else the last line that is no progress bar."""
    messages = [line for line in lines if not _PROGRESS.search(line)]
    exceptions = [line for line in messages if _EXCEPTION.match(line)]
    return (exceptions or messages or ["it printed nothing"])[-1][:500]
