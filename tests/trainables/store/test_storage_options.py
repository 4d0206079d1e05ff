from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainables.core.errors import SpecError
from trainables.store.storage_options import OPTIONS_VARIABLE, StorageOptions


def test_only_what_is_not_the_default_is_sent() -> None:
    options = StorageOptions(endpoint="https://host:9000/", region="eu-1", path_style=False)
    assert options.plain() == {"endpoint": "https://host:9000", "region": "eu-1", "path_style": False}
    assert StorageOptions.model_validate(options.plain()) == options
    assert StorageOptions().plain() == {}


@pytest.mark.parametrize(
    "name", ["access_key_id", "aws_secret_access_key", "token", "sas_key", "account_key", "password", "client_secret"]
)
def test_credentials_are_refused_and_not_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match=f"{name} is a credential.*environment variables") as refusal:
        StorageOptions.model_validate({name: "HUSH", "region": "HUSH"})
    assert "HUSH" not in str(refusal.value)
    monkeypatch.setenv(OPTIONS_VARIABLE, f"region=eu-1 {name}=HUSH")
    with pytest.raises(SpecError, match=f"{name} is a credential") as refused:
        StorageOptions().completed("s3")
    assert "HUSH" not in str(refused.value)


@pytest.mark.parametrize("endpoint", ["minio:9000", "s3://host", "https://", "https://host?x=1", "https://host#x"])
def test_an_endpoint_is_the_url_of_a_server(endpoint: str) -> None:
    with pytest.raises(ValidationError, match=r"not a URL of a server; write it as https://host:port"):
        StorageOptions(endpoint=endpoint)


def test_a_password_in_an_endpoint_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"credentials") as refusal:
        StorageOptions(endpoint="https://user:HUSH@host")
    assert "HUSH" not in str(refusal.value)


def test_an_endpoint_without_tls_has_to_be_allowed_except_on_this_machine() -> None:
    with pytest.raises(ValidationError, match=r"has no TLS.*allow_http: true"):
        StorageOptions(endpoint="http://10.0.0.5:9000")
    assert StorageOptions(endpoint="http://10.0.0.5:9000", allow_http=True)
    assert StorageOptions(endpoint="http://localhost:9000")
    assert StorageOptions(endpoint="http://[::1]:9000")


def test_what_is_left_open_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://aws")
    monkeypatch.setenv("AWS_REGION", "from-aws")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    assert StorageOptions().completed("s3").plain() == {"endpoint": "https://aws", "region": "from-aws"}
    assert StorageOptions().completed("gs").plain() == {}
    assert StorageOptions().completed("az").plain() == {"account": "me"}
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3")
    monkeypatch.setenv(OPTIONS_VARIABLE, "region=ours anonymous=True")
    assert StorageOptions().completed("s3").plain() == {"endpoint": "https://s3", "region": "ours", "anonymous": True}
    given = StorageOptions(region="given", endpoint="https://given")
    assert given.completed("s3").plain() == {"endpoint": "https://given", "region": "given", "anonymous": True}


def test_the_words_of_options_are_those_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    options = StorageOptions(endpoint="https://h", allow_http=True, ca_certificate="/a b.pem")
    monkeypatch.setenv(OPTIONS_VARIABLE, options.words())
    assert StorageOptions().completed("gs") == options


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("endpiont=https://x", r"'endpiont' is not an option; did you mean.*endpoint.*\(allowed: endpoint, region"),
        ("https://minio:9000", r"a word is not name=value"),
        ("allow_http=maybe", "allow_http=maybe: write true or false"),
        ("endpoint=minio:9000", "endpoint: 'minio:9000' is not a URL"),
        ("endpoint='x", "No closing quotation; write name=value"),
    ],
)
def test_what_is_wrong_in_the_variable_is_named(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTIONS_VARIABLE, text)
    with pytest.raises(SpecError, match=f"{OPTIONS_VARIABLE}.*{said}"):
        StorageOptions().completed("s3")
