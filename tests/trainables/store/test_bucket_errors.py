from __future__ import annotations

import pytest

from trainables.store.bucket_errors import passing, words
from trainables.store.storage_options import StorageOptions

START = "Generic S3 error: Error performing PUT https://h/b/a in 3ms"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{START} - Server returned non-2xx status code: 403 Forbidden: <Error><Code>InvalidAccessKeyId</Code>"
         "<AWSAccessKeyId>AKIAHUSH</AWSAccessKeyId></Error>", "does not accept the credentials"),
        (f"{START} - Server returned non-2xx status code: 400 Bad Request: <Error><Code>AuthorizationHeaderMalformed"
         "</Code><Region>eu-central-1</Region></Error>", "in the region eu-central-1, and not in us-east-1"),
        (f"{START}, after 10 retries, max_retries: 10 - HTTP error: error sending request",
         "the server at https://h does not answer, after 10 retries"),
        ("Generic GCS error: Error performing token request: GET http://169.254.169.254/compute", "no credentials"),
        (f"{START} - HTTP error: builder error", "allow_http: true"),
        ("something\n new\n\nDebug source:\nHUSH", "something new"),
    ],
)  # fmt: skip
def test_texts_of_stores_become_words(text: str, said: str) -> None:
    found = words(text, "s3://b", StorageOptions(endpoint="https://h"))
    assert said in found
    assert "HUSH" not in found


@pytest.mark.parametrize(
    ("status", "expected"), [(409, True), (429, True), (500, True), (503, True), (403, False), (400, False)]
)
def test_what_passes_is_told_from_what_stays(status: int, expected: bool) -> None:
    assert passing(f"{START} - Server returned non-2xx status code: {status} X: ") == expected
