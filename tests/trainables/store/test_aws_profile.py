from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from trainables.core.errors import StorageError
from trainables.store.aws_profile import AwsProfile, aws_profile


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two files of the AWS tools with profiles of several kinds."""
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = HUSH%\n"
        "[work]\naws_access_key_id = B\naws_secret_access_key = HUSH\naws_session_token = T\n"
    )
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-1\n[profile work]\nregion = us-9\n"
        "[profile sso]\nsso_session = mine\n[profile bare]\nregion = x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.usefixtures("profiles")
def test_keys_and_region_of_a_profile_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws_profile() == AwsProfile({"access_key_id": "A", "secret_access_key": "HUSH%"}, "eu-1")
    monkeypatch.setenv("AWS_PROFILE", "work")
    keys = {"access_key_id": "B", "secret_access_key": "HUSH", "session_token": "T"}
    assert aws_profile() == AwsProfile(keys, "us-9")
    assert "HUSH" not in repr(aws_profile())
    monkeypatch.setenv("AWS_PROFILE", "bare")
    assert aws_profile() is None


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_the_environment_comes_first(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "x")
    assert aws_profile() is None


def test_no_files_are_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws_profile() is None
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(StorageError, match=r"AWS_PROFILE is none, but .* have no such profile"):
        aws_profile()


@pytest.mark.usefixtures("profiles")
def test_what_needs_boto3_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "sso")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        StorageError, match="profile sso gets its credentials by sso_session, for which boto3 is needed"
    ):
        aws_profile()


def test_a_broken_file_is_named_without_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("aws_secret_access_key = HUSH\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(StorageError, match=r"credentials cannot be read") as refusal:
        aws_profile()
    assert "HUSH" not in str(refusal.value)
