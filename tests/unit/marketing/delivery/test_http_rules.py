"""What is signed, and what Retry-After says."""

import hashlib
import hmac
from datetime import timedelta

import pytest

from examples.marketing.delivery.providers.http import retry_after, signature
from tests.support.marketing import NOW


def test_the_signature_is_over_the_time_and_the_body() -> None:
    wanted = hmac.new(b"secret", b'1700000000.{"a": 1}', hashlib.sha256).hexdigest()
    assert signature(b"secret", 1_700_000_000, b'{"a": 1}') == f"t=1700000000,v1={wanted}"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("-5", 0),
        ("99999999999999999999", 86_400),
        ("soon", 0),
        ("Tue, 01 Dec 2026 01:02:00 GMT", 120),
        ("Tue, 01 Dec 2026 01:02:00", 120),
        ("Tue, 01 Dec 2026 02:02:00 +0100", 120),
        ("Tue, 01 Dec 2026 00:00:00 GMT", 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 86_400),
        ("Tue, 41 Dec 2026 01:02:00 GMT", 0),
        ("Tue, 01 Dec 99999999999999999999 01:02:00 GMT", 0),
        ("Tue, 01 Dec 2026 01:02:00 +9999", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: int) -> None:
    assert retry_after(header, NOW) == timedelta(seconds=seconds)
