"""Stands in for the python of lmms-eval's environment where a test is not about lmms-eval.

Writes the files of `python -m lmms_eval` for one task of six samples; base and student differ in
one sample. FAKE_FAILS=<task> makes that task fail as lmms-eval does: a traceback, exit code 0. The
task `hangs` starts a worker that outlives it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

if sys.argv[1] == "-c":
    print(json.dumps({"lmms_eval": os.environ.get("FAKE_VERSION", "0.7.3"), "torch": "2.13.0"}))
    sys.exit()
options = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=False))
task = options["--tasks"]
print("\x1b[32mSelected Tasks\x1b[0m", [task])
if task == os.environ.get("FAKE_FAILS"):
    print("Traceback (most recent call last):\nRuntimeError: no such data", flush=True)
    print("ERROR - Error during evaluation: no such data. Please set `--verbosity=DEBUG`")
    print("replies:   0%|          | 0/6 [00:00<?, ?it/s]")
    sys.exit(0)
if task == "killed":
    os.abort()
if task == "hangs":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", f"worker of {__file__}"])
    print("replies:  50%|     | 3/6 [00:00<?, ?it/s]", flush=True)
    time.sleep(3)
    sys.exit()
is_student = "merged" in options["--model_args"]
scores = [0.0, 1.0, 0.0, 1.0, 1.0, 1.0 if is_student else 0.0]
folder = Path(options["--output_path"]) / "a__model"
folder.mkdir(parents=True)
results = {
    "results": {task: {"alias": task, "acc,none": sum(scores) / 6, "acc_stderr,none": 0.2}},
    "higher_is_better": {task: {"acc": True}},
    "n-samples": {task: {"original": 9, "effective": 6}},
}
(folder / "20261124_120000_results.json").write_text(json.dumps(results))
lines = [json.dumps({"doc_id": number, "acc": score}) for number, score in enumerate(scores)]
(folder / f"20261124_120000_samples_{task}.jsonl").write_text("\n".join(lines) + "\n")
