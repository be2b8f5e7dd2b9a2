"""Files of models: data alone is read, nothing is run, and no header is believed."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from featurestore.embedders.checkpoint import find_checkpoint, read_tensors
from featurestore.errors import InputError
from learners.linear import Ridge

torch = pytest.importorskip("torch")


class Evil:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_unrun(tmp_path, zipped):
    path, mark = tmp_path / "pytorch_model.bin", tmp_path / "run"
    torch.save({"a": torch.ones(2), "b": Evil(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        read_tensors((path,))
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        read_tensors((path,))
    assert not mark.exists()


def test_a_torch_archive_that_is_compressed_is_a_bomb(tmp_path):
    plain, path = tmp_path / "plain.bin", tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(5_000_000)}, plain)
    with (
        zipfile.ZipFile(plain) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="compressed"):
        read_tensors((path,))


def test_a_tensor_of_stride_zero_tells_of_more_than_its_file_holds(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(1).expand(1_000_000, 1_000_000)}, path)
    with pytest.raises(InputError, match="tells of 4,000,000,000,000 bytes"):
        read_tensors((path,))


@pytest.mark.parametrize(
    "head",
    [
        b"\xff" * 8,
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 60)
        + b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}',
        struct.pack("<Q", 58)
        + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,999999]}}'
        + bytes(8),
        struct.pack("<Q", 4000) + b"[" * 4000,
        b"",
    ],
)
def test_a_header_of_safetensors_is_not_believed(tmp_path, head):
    path = tmp_path / "model.safetensors"
    path.write_bytes(head)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_tensors((path,))


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/etc/passwd", "..", "a/b.bin", "x\0y", "\\u0000"]
)
def test_an_index_names_no_weights_outside_its_folder(tmp_path, shard):
    (tmp_path / "config.json").write_text("{}")
    index = {"weight_map": {"a": shard}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError):
        read_tensors(find_checkpoint(str(tmp_path)).weights)


@pytest.mark.parametrize(
    "body", ["[]", '{"weight_map": []}', '{"weight_map": {}}', '"x"', "{", "[" * 9999]
)
def test_an_index_of_wrong_content_is_told(tmp_path, body):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(body)
    with pytest.raises(InputError, match=r"index\.json"):
        find_checkpoint(str(tmp_path))


def test_a_keras_file_leads_nowhere_else(tmp_path):
    h5py = pytest.importorskip("h5py")
    from featurestore.embedders.a2z.keras_file import _array, _within

    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones(3, np.float32)
    (tmp_path / "raw").write_bytes(bytes(12))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["soft"] = h5py.SoftLink("/real")
        file["out"] = h5py.ExternalLink(str(other), "secret")
        external = [(str(tmp_path / "raw"), 0, 12)]
        file.create_dataset("raw", shape=(3,), dtype="<f4", external=external)
        file.create_dataset("huge", shape=(1 << 40,), dtype="<f4", chunks=(1 << 20,))
    with h5py.File(tmp_path / "x.h5") as file:
        for name in ("soft", "out"):
            with pytest.raises(InputError, match="not followed"):
                _within(file, name, "x.h5")
        with pytest.raises(InputError, match="another file"):
            _array(file, "raw", (3,), "x.h5")
        with pytest.raises(InputError, match="has shape"):
            _array(file, "huge", (3,), "x.h5")


def test_a_network_is_not_built_as_large_as_its_settings_say(tmp_path):
    """Settings of a terabyte beside weights of a few bytes."""
    from safetensors.numpy import save_file

    from learners.neural.onehot_cnn import OneHotCNN

    class Wide(OneHotCNN):
        def build(self, layout, targets):
            return torch.nn.Linear(layout["width"], targets)

    config = {"learner": Wide.info.name, "parameters": {}, "layout": {"width": 1 << 38}}
    (tmp_path / "learner.json").write_text(json.dumps(config))
    arrays = {"target_mean": np.zeros(1), "target_deviation": np.ones(1)}
    arrays |= {"network.weight": np.zeros((1, 2)), "network.bias": np.zeros(1)}
    save_file(arrays, tmp_path / "arrays.safetensors")
    with pytest.raises(InputError, match="not those of its settings"):
        Wide.load(tmp_path)
    config["layout"]["width"] = 2
    (tmp_path / "learner.json").write_text(json.dumps(config))
    Wide.load(tmp_path)


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "hist_gradient_boosting", "knn", "ridge"])
def test_a_learner_that_is_none_is_told(tmp_path, name):
    """Rubbish in the place of a model; the parsers of the libraries are their own (docs/threats.md)."""
    from learners.registry import get_learner

    pytest.importorskip(name if name in ("xgboost", "lightgbm") else "sklearn")
    cls = get_learner(name)
    config = {"learner": name, "parameters": {}, "layout": {}, "rounds": [1], "neighbours": 3}
    (tmp_path / "learner.json").write_text(json.dumps(config))
    for file in ("target_0.ubj", "target_0.txt", "arrays.safetensors"):
        (tmp_path / file).write_bytes(b"rubbish" * 9)
    with pytest.raises(InputError, match=str(tmp_path)):
        cls.load(tmp_path)


def test_arrays_of_a_learner_are_no_pickle(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.array([Evil(tmp_path / "run")], object), allow_pickle=True)
    (tmp_path / "learner.json").write_text('{"learner": "ridge", "parameters": {}, "layout": {}}')
    (tmp_path / "arrays.safetensors").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match=r"arrays\.safetensors"):
        Ridge.load(tmp_path)
    assert not (tmp_path / "run").exists()
