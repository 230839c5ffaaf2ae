"""What several data tests share: the glyphs, drawn once a session."""

import pytest

from metaloop.data.images.glyphs import Glyphs


@pytest.fixture(scope="session")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Glyphs:
    dataset = Glyphs(str(tmp_path_factory.mktemp("cache")))
    dataset.split("train")
    return dataset
