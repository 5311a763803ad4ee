from pathlib import Path

import pytest
from inspection_shards import Make, maker


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)
