"""The config file: every key is checked, numbers are numbers, and what is written is read back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sekd.config import RunConfig, load_config, write_resolved
from sekd.errors import ConfigError

Load = Callable[..., RunConfig]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train.num_option=3"], "data.train.num_option; did you mean num_options?"),
        (["data.test.table=t.csv"], "data.test: Value error, give taxonomy: a file, or the"),
        (["data.train.table=t.csv"], "give either images (a folder) or table"),
        (["data.train.num_options=27"], "data.train.num_options: Input should be less than"),
        (["elicit.engine=vlm"], "elicit.engine: Input should be 'transformers' or 'vllm' (got 'vl"),
        (["elicit.top_k=5.0"], "elicit.top_k: Input should be a valid integer (got 5.0)"),
        (["elicit.top_k='5'"], "elicit.top_k: Input should be a valid integer (got '5')"),
        (["elicit.top_k=true"], "elicit.top_k: Input should be a valid integer (got True)"),
        (["elicit.top_k=0"], "elicit.top_k: Input should be greater than or equal to 1 (got 0)"),
        (["model.revision=5"], "model.revision: Input should be a valid string (got 5)"),
        (["model.trust_remote_code=1"], "model.trust_remote_code: Input should be a valid boolean"),
        (["elicit.layers=middle"], "elicit.layers: Input should be a valid array (got 'middle')"),
        (["distill.learning_rate=fast"], "distill.learning_rate: Input should be a valid number"),
        (["distill.learning_rate=.inf"], "distill.learning_rate: Input should be a finite number"),
        (["distill.temperature=.nan"], "distill.temperature: Input should be a finite number"),
        (
            [f"distill.losses.{term}=0" for term in ("hard", "format", "soft", "feature")],
            "distill.losses: Value error, hard, format, soft, feature and text are all 0",
        ),
        (["elicit.max_quarantined=1.5"], "elicit.max_quarantined: Input should be less than or eq"),
        (["model.revision=2024-01-01"], "write dates and the like in quotes"),
        (["sweep.variants.a.lora.rank=0"], "sweep.variants.a.lora.rank: Input should be greater"),
        (["sweep.variants.a.labels=truth"], "sweep.variants.a: Value error, labels: truth: the t"),
        (["sweep.variants.a.lora=4"], "sweep.variants.a.lora: "),
        (["sweep.variants.student={}"], "variants: student is taken; give another name"),
        (["sweep.seeds=[1, 1]"], "seeds: one occurs twice in 1, 1"),
        (["elicit"], "--set elicit: expected key=value"),
        (["=5"], "--set =5: expected key=value"),
        (["run_dir.x=5"], "--set run_dir.x=5: run_dir has no keys below it"),
        (["run_dir=[5"], "--set run_dir=[5: the value is not valid YAML"),
    ],
)
def test_wrong_values_are_one_line_that_names_the_key(
    load: Load, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load(overrides=overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"base": ""}, "expected keys such as run_dir, model and data"),
        ({"base": "- run_dir"}, "expected keys such as run_dir"),
        ({"base": "run_dir: ["}, "not valid YAML"),
        ({"base": "run_dir: !!python/name:os.system"}, "not valid YAML"),
        ({"more": "run_dir: runs/b"}, "not valid YAML: the key run_dir occurs twice"),
        ({"more": "elicit: {top_k: 1, top_k: 2}"}, "the key top_k occurs twice"),
        ({"more": "? [a]\n: 1"}, "not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(
    load: Load, content: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: ") as error:
        load(**content)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unreadable_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("run_dir: Rüppell".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: cannot be read"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("written", "number"),
    [("5e-5", 5e-5), ("5E-5", 5e-5), ("5.e-5", 5e-5), ("1e+0", 1.0), ("0.1", 0.1), ("3", 3.0)],
)
def test_numbers_may_have_an_exponent(load: Load, written: str, number: float) -> None:
    assert load(f"distill: {{learning_rate: {written}}}").distill.learning_rate == number
    assert load("", [f"distill.learning_rate={written}"]).distill.learning_rate == number


@pytest.mark.parametrize("revision", ["3e8f01a", "12e", "1e5-rc", "e5", "v1e5"])
def test_commits_that_begin_like_a_number_are_text(load: Load, revision: str) -> None:
    assert load("", [f"model.revision={revision}"]).model.revision == revision


def test_overrides_reach_every_depth_and_the_last_wins(load: Load) -> None:
    config = load(
        "elicit: {engine: vllm}\n",
        [
            "run_dir=runs/c",
            "elicit.top_k=9",
            "elicit.top_k=8",
            "distill.lora.target_modules=[q_proj]",
            "model.processor_args.max_pixels=1003520",
            "data.test={table: t.csv, taxonomy: t.json, split: a=b}",
            "elicit.parity_limit=null",
        ],
    )
    assert config.run_dir == Path("runs/c")
    assert (config.elicit.engine, config.elicit.top_k) == ("vllm", 8)
    assert config.distill.lora.target_modules == ("q_proj",)
    assert config.model.processor_args == {"max_pixels": 1003520}
    assert config.data["test"].split == "a=b"
    assert config.data["train"].images == Path("images")


def test_merge_keys_share_settings(load: Load) -> None:
    config = load(
        "  test: &test {table: t.csv, taxonomy: t.json, seed: 1}\n"
        "  more: &more {<<: *test, seed: 2}\n"
        "  most: {<<: *more, seed: 3}\n"
    )
    specs = [config.data[name] for name in ("test", "more", "most")]
    assert [spec.seed for spec in specs] == [1, 2, 3]
    assert {spec.table for spec in specs} == {Path("t.csv")}


printable = st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"])
texts = st.text(printable, max_size=12) | st.sampled_from(
    [
        "12e4567",
        "1e5",
        "0x10",
        "null",
        "yes",
        "1_000",
        "2024-01-01",
        "~",
        "5e-5",
        "- a",
        "a: b",
        "<<",
        "=",
    ]
)
numbers = st.floats(min_value=1e-300, allow_infinity=False, allow_nan=False)
arguments = st.dictionaries(texts, texts | st.integers() | st.booleans() | numbers, max_size=3)


@given(revision=st.none() | texts, path=texts, rate=numbers, processor_args=arguments)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_resolved_config_is_read_back(
    tmp_path: Path, revision: str | None, path: str, rate: float, processor_args: dict[str, object]
) -> None:
    config = RunConfig.model_validate(
        {
            "run_dir": Path("runs/a"),
            "model": {"path": path, "revision": revision, "processor_args": processor_args},
            "data": {"1e5": {"taxonomy": Path("t.csv"), "table": Path("täble.csv")}},
            "distill": {"learning_rate": rate},
        }
    )
    write_resolved(config, tmp_path / "below/resolved.yaml")
    assert load_config(tmp_path / "below/resolved.yaml") == config


def test_resolved_config_shows_every_default(load: Load, tmp_path: Path) -> None:
    config = load()
    write_resolved(config, tmp_path / "resolved.yaml")
    content = yaml.safe_load((tmp_path / "resolved.yaml").read_text("utf-8"))
    assert content == config.model_dump(mode="json")
    assert content["distill"]["losses"]["soft"] == 1.0
    assert content["distill"]["losses"]["text"] == 0.0


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a\\b", "a\0b", ""])
def test_the_name_of_a_dataset_cannot_leave_its_folder(load: Load, name: str) -> None:
    text = yaml.safe_dump({name: {"images": "i", "taxonomy": "t.json"}})
    more = "".join(f"  {line}\n" for line in text.splitlines())
    with pytest.raises(ConfigError, match="the name of a dataset names folders"):
        load(more)


def test_a_home_directory_is_found_in_every_path(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = load(
        "  test: {table: ~/t.csv, image_root: ~/images, taxonomy: ~/t.json}\n",
        ["run_dir=~/runs/a", "model.path=~/models/m", "elicit.adapter=~/adapter"],
    )
    spec = config.data["test"]
    paths = (config.run_dir, config.model.path, config.elicit.adapter)
    paths = (*paths, spec.table, spec.image_root, spec.taxonomy)
    assert all(str(path).startswith("/home/me/") for path in paths), paths


def test_aliases_of_aliases_do_not_multiply(load: Load) -> None:
    names = "abcdefghij"
    more = f"a: &a [{', '.join('x' * 10)}]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise(names)
    )
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML: its aliases stand for"):
        load(more)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load("x: " + "[" * 5000 + "]" * 5000 + "\n")
    with pytest.raises(ConfigError, match="its aliases stand for"):
        load("x: &x [*x]\n")


YAML_PIECES = (
    *("run_dir: a\n", "model: ", "{path: x}\n", "data:\n", "  a: ", "&a ", "*a ", "[", "]", "- "),
    *("\t", "!!python/object:os.system ", "? ", "<<: ", "|\n"),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(YAML_PIECES)).map("".join)),
)
def test_any_text_is_a_config_or_an_error_on_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8", errors="replace")
    try:
        load_config(tmp_path / "c.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017  a good config is no error
