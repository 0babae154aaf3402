"""Write the table of supported models into docs/models.md.

    make test-gallery GALLERY=gallery.json
    python scripts/support_table.py gallery.json checks.json qwen2.5-vl internvl

The first command measures the families of the gallery in transformers. This one runs `sekd models
check` for each family that is not yet in checks.json, and also with vLLM for the families that are
named, where vLLM has a class for them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from gallery_families import FAMILIES  # noqa: E402
from gallery_parts import Family  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
START, END = "<!-- support table: start -->\n", "<!-- support table: end -->\n"
HEADER = (
    "| Family | Chat template | Cache | Largest difference | Adapter | vLLM | Limits |\n"
    "|---|---|---|---|---|---|---|\n"
)
Checks = dict[str, dict[str, Any]]


def check(folder: Path, engine: str) -> dict[str, Any]:
    """Run `sekd models check` in a process of its own; return the finding of each check."""
    command = [sys.executable, "-m", "sekd", "models", "check", str(folder), "--json"]
    command += ["--engine", engine, "--set", "model.dtype=float32"]
    done = subprocess.run(  # noqa: S603  the arguments are ours
        command, capture_output=True, text=True, check=False, timeout=900
    )
    try:
        content = json.loads(done.stdout)
    except json.JSONDecodeError:
        return {"failed": {"verdict": "no", "detail": done.stderr.strip()[-300:]}}
    return {finding["name"]: finding for finding in content["findings"]}


def check_families(path: Path, in_vllm: list[str]) -> Checks:
    """Run the checks that are not in the file yet, and add them to it."""
    checks: Checks = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for family in FAMILIES:
        findings = checks.setdefault(family.name, {})
        for engine in ("transformers", "vllm") if family.name in in_vllm else ("transformers",):
            support = findings.get("transformers", {}).get("vllm", {})
            if engine in findings or support.get("verdict", "yes") not in ("yes", "limited"):
                continue
            with tempfile.TemporaryDirectory() as folder:
                findings[engine] = check(family.save(Path(folder)), engine)
            path.write_text(json.dumps(checks, indent=1), encoding="utf-8")
            print(family.name, engine, _difference(findings[engine]), flush=True)  # noqa: T201
    return checks


def _difference(findings: Mapping[str, Any]) -> str:
    """Return how far an engine and the state pass differ over the dialogue of the check."""
    dialogue = findings.get("dialogue", findings.get("failed", {}))
    found = re.search(r"(\S+) at most", dialogue.get("detail", ""))
    return found[1] if found else "no"


def row(family: Family, measured: Mapping[str, Any], checked: Mapping[str, Any]) -> str:
    """Return a family's row of the table."""
    template = family.template if family.image is None else f"({family.template})"
    walk, refused = measured.get("dialogue"), measured.get("float32", {}).get("refused_at_load")
    cache, difference, limits = "", "", []
    if refused:
        limits.append("reads its prompt in both directions: refused")
    elif walk:
        cache = "continued" if walk["continues_cache"] else "recomputed"
        largest = max(
            figure
            for style in ("dialogue", "facts")
            for figure in (measured[style]["cached_vs_single"], measured[style]["parity_max"])
        )
        difference = f"{largest:.0e}"
        limits += _refused_images(walk["refused"])
    adapter = checked["transformers"]["adapter"]["detail"]
    frozen = re.search(r"(\d+%) of the weights of the blocks stay frozen", adapter)
    if frozen:
        limits.append(f"experts stay frozen by default ({frozen[1]} of the blocks' weights)")
    layers = re.search(r"LoRA on \d+ layers: ([^;]*)", adapter)
    names = re.sub(r"_proj\b", "", layers[1] if layers else adapter).replace(", ", " ")
    return (
        f"| {family.name} | {template} | {cache} | {difference} | {names} "
        f"| {_vllm_cell(checked)} | {'; '.join(limits)} |\n"
    )


def _refused_images(reasons: list[str]) -> list[str]:
    """Say which of the gallery's images were set aside."""
    sizes = [re.search(r"an image of (\d+x\d+) pixels", reason) for reason in reasons]
    limits = [f"sets aside an image of {size[1]} pixels" for size in sizes if size]
    if any("the model does not take" in reason for reason in reasons):
        limits.append("transformers' code fails on an image of one patch alone: set aside")
    return limits


def _vllm_cell(checked: Mapping[str, Any]) -> str:
    support = checked["transformers"]["vllm"]
    if support["verdict"] not in ("yes", "limited"):
        return "no"
    kind = "transformers' code" if "runs transformers' code" in support["detail"] else "own class"
    adapters = ", no adapters" if "serves no LoRA" in support["detail"] else ""
    if "vllm" not in checked:
        return f"{kind}{adapters}; not run"
    difference = _difference(checked["vllm"])
    if difference == "no":
        dialogue = checked["vllm"].get("dialogue", checked["vllm"].get("failed"))
        return f"{kind}{adapters}; fails: {dialogue['detail'].rpartition(': ')[2]}"
    return f"{kind}{adapters}; {difference}"


def main() -> None:
    gallery, checks_file, *in_vllm = sys.argv[1:]
    checks = check_families(Path(checks_file), in_vllm)
    measured = json.loads(Path(gallery).read_text("utf-8"))
    rows = [row(family, measured[family.name], checks[family.name]) for family in FAMILIES]
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}{HEADER}{''.join(rows)}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
