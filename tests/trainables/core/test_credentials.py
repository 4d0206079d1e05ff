"""Which URIs hold credentials."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.core.credentials import in_uri

SECRET = [
    "s3://AKIAKEY:SECRET@bucket/runs",
    "s3://AKIAKEY:SEC/RE+T@bucket/runs",
    "s3://AKIAKEY:@bucket/runs",
    "s3://:SECRET@bucket/runs",
    "S3://AKIAKEY:SECRET@bucket",
    "s3://AKIAKEY%3ASECRET%40bucket/runs",
    "s3://AKIAKEY:12345@bucket/runs",
    "s3://bucket/runs?access_key=A&secret_key=B",
    "s3://bucket/runs?region=eu&SECRET_KEY=B",
    "s3://bucket/runs?endpoint_override=http%3A%2F%2Fuser%3Apass%40host",
    "s3://bucket/a?X-Amz-Signature=0123",
    "s3://bucket/a?AWSAccessKeyId=0123&Signature=4",
    "https://user:pass@host/data.zip",
    "https://host/data.zip?token=abc",
    "gs://bucket/runs?access_token=abc",
    "gs://bucket/runs?json_credentials=abc",
    "abfs://container@account.dfs.core.windows.net/runs?sv=2022&sig=abc",
    "az://container/runs?account_key=abc",
    "abfss://account:KEY@container.blob/runs",
    "hdfs://user:pass@host:9000/runs",
    "file://user:pass@host/runs",
    "file://user:pass@/runs",
    "s3:/AKIAKEY:SECRET@bucket/runs",
    "s3://[AKIAKEY:SECRET@bucket/runs",
    "s3://user:pass@[::1]:9000/runs",
    "s3://bucket/runs?secret_key:B",
    "s3://bucket/runs;secret%5Fkey=B",
]
CLEAN = [
    "runs",
    "/data/a:b@c",
    "C:\\runs",
    "s3://bucket/runs",
    "s3://bucket/runs?region=eu-central-1&endpoint_override=localhost:9000&scheme=http",
    "s3://bucket/keys?kms_key_arn_region=eu",
    "gs://anonymous@bucket/runs",
    "abfs://container@account.dfs.core.windows.net/runs",
    "hdfs://user@host:9000/a@b",
    "hdfs://host:9000/a:b@c",
    "s3://[::1]:9000/a@b",
    "s3://[2001:DB8::1]:9000/a@b",
    "C:/data/a:b@c",
    "file:///data/a:b@c?d",
    "see https://example.org/a?page=2#sign",
]


@pytest.mark.parametrize("uri", SECRET)
def test_credentials_are_found_however_they_are_encoded(uri: str) -> None:
    assert in_uri(uri)
    assert in_uri(quote(uri, safe=":/?&="))
    assert in_uri(f"root: {uri}")


@pytest.mark.parametrize("uri", CLEAN)
def test_other_uris_and_paths_are_accepted(uri: str) -> None:
    assert not in_uri(uri)


@given(*[st.text(st.characters(codec="ascii", exclude_characters=":/?#@%["), min_size=1)] * 2, st.booleans())
def test_every_user_with_a_password_is_found(user: str, password: str, encoded: bool) -> None:
    secret = quote(password, safe="") if encoded else password
    assert in_uri(f"s3://{user}:{secret}@bucket/runs")
