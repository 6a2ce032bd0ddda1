from pathlib import Path

import pytest

from opsmend.compose import pipeline_config
from opsmend.config import ConfigError, load, schema, secret
from rootcause.graph import GraphBuilder


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "opsmend.toml"
    path.write_text(text)
    return path


def test_no_file_means_embedded_and_observe() -> None:
    settings = load(None)
    assert settings.ingest.transport == "embedded"
    assert settings.repair.mode == "observe"
    assert settings.repair.allow == []


@pytest.mark.parametrize(
    ("text", "line", "key", "near"),
    [
        ("[repair]\nmode = 'auto'\n[repair.budget]\nactions_per_houre = 1\n", 4, "repair.budget.actions_per_houre",
         "actions_per_hour"),
        ("[repare]\nmode = 'auto'\n", 1, "repare", "repair"),
        ("[[repair.allow]]\nservice='a'\nactions=[]\n[[repair.allow]]\nservice='b'\nactions=[]\nmod='auto'\n", 7,
         "repair.allow.1.mod", "mode"),
    ],
)
def test_a_typo_is_refused_with_line_and_nearest_name(tmp_path: Path, text: str, line: int, key: str,
                                                      near: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"{path}:{line}: unknown key '{key}'; did you mean '{near}'?" in str(caught.value)


def test_a_wrong_value_is_refused_with_what_was_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"opsmend.toml:2: repair.mode: .*'observe'.*got 'autp'"):
        load(write(tmp_path, "[repair]\nmode = 'autp'\n"))


@pytest.mark.parametrize("line", ['"/rss" = 1', '"cart/" = 1', '"" = 1', "rss = nan", "rss = inf", "rss = ''"])
def test_a_limit_that_says_nothing_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"opsmend.toml:1: limits: .*"):
        load(write(tmp_path, f"[limits]\n{line}\n"))


def test_a_limit_may_be_of_one_service(tmp_path: Path) -> None:
    settings = load(write(tmp_path, '[limits]\n"cart/process.memory.rss" = 2e9\njobs = "jobs_max"\n'))
    assert pipeline_config(settings).detection.limits == {"cart/process.memory.rss": 2e9, "jobs": "jobs_max"}


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSMEND_REPAIR__MODE", "observe")
    monkeypatch.setenv("OPSMEND_REPAIR__BUDGET__ACTIONS_PER_HOUR", "3")
    settings = load(write(tmp_path, "[repair]\nmode = 'auto'\n[repair.budget]\ncooldown_seconds = 7\n"))
    assert settings.repair.mode == "observe"
    assert settings.repair.budget.actions_per_hour == 3
    assert settings.repair.budget.cooldown_seconds == 7


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(write(tmp_path, "[repair\n"))


def test_secrets_come_from_environment_or_file_only_where_they_exist(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3")
    (tmp_path / "f").write_text("s4\n")
    assert secret("", "A_SECRET") == "s3"
    assert secret("", "", str(tmp_path / "f")) == "s4"
    with pytest.raises(ConfigError, match="NOT_SET"):
        secret("", "NOT_SET")


def test_the_schema_is_that_of_the_sections() -> None:
    assert {"service", "ingest", "repair", "store"} <= set(schema()["properties"])


@pytest.mark.parametrize(("name", "near"), [
    ("OPSMEND_REPAIR__MOED", "OPSMEND_REPAIR__MODE"), ("OPSMEND_REPAIR_MODE", "OPSMEND_REPAIR__MODE"),
    ("OPSMEND_INGEST__KAFKA__BOOTSTRAP", "OPSMEND_INGEST__KAFKA__BOOTSTRAP_SERVERS"), ("OPSMEND_URI", "OPSMEND_URL"),
])
def test_a_typo_in_a_variable_is_refused_with_the_nearest_name(name: str, near: str,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "auto")
    with pytest.raises(ConfigError, match=f"environment: {name}: .*did you mean '{near}'"):
        load(None)


def test_variables_that_mean_something_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSMEND_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPSMEND_MY_TOKEN", "named by the file")
    monkeypatch.setenv("OPSMEND_LIMITS__POOL", "12")
    monkeypatch.setenv("OPSMEND_INGEST__ENTITY__FROM", '["app"]')
    settings = load(write(tmp_path, "[service]\ntoken_env = 'OPSMEND_MY_TOKEN'\n"))
    assert settings.ingest.entity.from_ == ["app"]


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "[service]\ndata_dir = 'var'\n[repair]\nactions_dir = '/etc/actions'\nrunbooks_dir = 'rb'\n"
                           "[ingest.kafka]\nsecurity = { ca = 'ca.pem' }\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = load(Path("..") / path.name)
    assert settings.data_dir.resolve() == tmp_path / "var"
    assert str(settings.repair.actions_dir) == "/etc/actions"
    assert settings.repair.runbooks_dir is not None and settings.repair.runbooks_dir.resolve() == tmp_path / "rb"
    assert Path(settings.ingest.kafka.security.ca).resolve() == tmp_path / "ca.pem"


@pytest.mark.parametrize(("text", "why"), [
    ("[[ingest.topics]]\nname = 'opsmend.dead-letters'\n", "again and again"),
    ("[[ingest.topics]]\npattern = '.*'\n", "again and again"),
    ("[[ingest.topics]]\npattern = '('\n", "no regular expression"),
    ("[[ingest.topics]]\nkind = 'changes'\n", "a name or a pattern"),
    ("[[ingest.topics]]\nname = 'a'\nformat = 'otlp_json'\n", "did you mean 'otlp-json'"),
    ("[[webhooks]]\nurl = 'ftp://x'\n", "must begin with http"),
    ("[[webhooks]]\nurl = 'http://x'\ntypes = ['io.opsmend.incident.open']\n",
     "did you mean 'io.opsmend.incident.opened'"),
])
def test_what_could_not_work_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(write(tmp_path, text))


@pytest.mark.parametrize(("toml", "says"), [
    ('edges = [["a", "a"]]', "to itself"),
    ('edges = [["a", "node-1"]]\nrests_on = [["a", "node-1"]]', "is a host or volume"),
    ('kinds = { "node-1" = "host" }\nedges = [["node-1", "a"]]', "is a host or volume"),
    ('kinds = { "pg" = "database" }\nrests_on = [["a", "pg"]]', "not a database"),
    ('kinds = { "pg" = "databse" }', "database"),
])
def test_a_topology_that_contradicts_itself_is_refused(tmp_path: Path, toml: str, says: str) -> None:
    (tmp_path / "opsmend.toml").write_text(f"[topology]\n{toml}\n")
    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "opsmend.toml")


def test_the_topology_reaches_the_graph(tmp_path: Path) -> None:
    (tmp_path / "opsmend.toml").write_text(
        '[topology]\nkinds = { "pg" = "database", "disk" = "volume" }\nrests_on = [["pg", "disk"], ["pg", "node-1"]]\n')
    graph = GraphBuilder(pipeline_config(load(tmp_path / "opsmend.toml")).graph).graph()
    assert graph.services == ("pg",) and graph.kinds == {"pg": "database", "disk": "volume", "node-1": "host"}
