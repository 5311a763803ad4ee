from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fsspec
import pytest
from faults.proxy import Proxy

from raytrain import storage


@pytest.fixture
def proxy(weed: Any) -> Iterator[Proxy]:
    """A network between here and the S3 server that fails when it is told to."""
    proxy = Proxy(weed.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def far_s3(weed: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The S3 server behind the proxy, for this process, which waits for it but briefly."""
    far = replace(weed, endpoint=proxy.endpoint)
    short = {"RAYTRAIN_RETRY_S": "10", "AWS_MAX_ATTEMPTS": "1"}
    for name, value in (far.environment | short).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storage, "FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(storage, "READ_TIMEOUT_S", 1)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # would keep keys of earlier tests
    yield far
    fsspec.get_filesystem_class("s3").clear_instance_cache()
