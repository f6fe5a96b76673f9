"""A data set of the hub, as it lies in the cache after a download, and no network."""

import json
from pathlib import Path

import pytest

from tunesmith.data import read


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Its name. Config ynat; splits train and validation; columns title and label (a ClassLabel)."""
    datasets = pytest.importorskip("datasets")
    cache = tmp_path / "cache"
    features = datasets.Features(
        {"title": datasets.Value("string"), "label": datasets.ClassLabel(names=["정치", "경제"])}
    )
    for split in ("train", "validation"):
        rows = {"title": [f"{split} 하나", f"{split} 둘"], "label": [0, 1]}
        datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "made" / f"{split}.parquet")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    files = {split: str(tmp_path / "made" / f"{split}.parquet") for split in ("train", "validation")}
    builder = datasets.load_dataset_builder("parquet", data_files=files, cache_dir=str(tmp_path / "build"))
    builder.download_and_prepare()
    built = Path(builder.cache_dir)
    target = cache / "some___topics" / "ynat" / "0.0.0" / "0123456789abcdef0123456789abcdef01234567"
    target.mkdir(parents=True)
    for path in built.iterdir():
        name = path.name.replace("parquet-", "topics-")
        (target / name).write_bytes(path.read_bytes())
    info = json.loads((target / "dataset_info.json").read_text())
    info.update(builder_name="topics", dataset_name="topics", config_name="ynat")
    (target / "dataset_info.json").write_text(json.dumps(info))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    read._loaded.cache_clear()
    return "some/topics"
