from pathlib import Path

import pytest

from opsmend.config import ConfigError, load, schema, secret


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
