from __future__ import annotations

import gc
import gzip
import io
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from pcloud.errors import InputError
from pcloud.images import image_splits, read_images
from tests.images.made import bars

IMAGES, LABELS = bars(12)
COLOURS = np.stack([IMAGES, IMAGES // 2, IMAGES // 3], axis=-1)


def write_idx(path, array):
    """The layout of the MNIST files, written from its description."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    raw = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def assert_same(sample, images=IMAGES, labels=LABELS, classes=("0", "1")):
    np.testing.assert_array_equal(sample.images.numpy(), images.reshape(sample.images.shape))
    np.testing.assert_array_equal(sample.labels, labels)
    assert list(sample.classes) == list(classes)


def test_npz_with_names(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS, classes=["lying", "upright"])
    sample = read_images(tmp_path / "a.npz")
    assert sample.images.shape == (12, 1, 18, 18)
    assert sample.images.dtype == torch.uint8
    assert_same(sample, classes=("lying", "upright"))


def test_npz_with_a_training_and_a_test_part(tmp_path):
    parts = {"x_train": IMAGES[:8], "y_train": LABELS[:8], "x_test": IMAGES[8:]}
    np.savez(tmp_path / "mnist.npz", **parts, y_test=LABELS[8:])
    assert image_splits(tmp_path / "mnist.npz") == ["train", "test"]
    assert_same(read_images(tmp_path / "mnist.npz"), IMAGES[:8], LABELS[:8])
    assert_same(read_images(tmp_path / "mnist.npz", "test"), IMAGES[8:], LABELS[8:])
    with pytest.raises(InputError, match="no split 'val', only train, test"):
        read_images(tmp_path / "mnist.npz", "val")


def galaxies(path, answers, size):
    """A file like Galaxy10, of black images."""
    answers = np.asarray(answers, dtype=np.uint8)
    with h5py.File(path / "Galaxy10.h5", "w") as file:
        file.create_dataset("images", (len(answers), size, size, 3), np.uint8, chunks=True)
        file["ans"] = answers
    return read_images(path / "Galaxy10.h5")


DECALS = (1081, 1853, 2645, 2027, 334, 2043, 1829, 2628, 1423, 1873)


@pytest.mark.parametrize(
    ("answers", "size", "third"),
    [
        (np.arange(20) % 10, 256, "in-between round smooth"),
        (np.repeat(np.arange(10), DECALS), 9, "in-between round smooth"),
        (np.arange(21_785) % 10, 9, "smooth, cigar shaped"),
        # parts: the whole SDSS file has 17 images of class 5, that of DECaLS 334 of class 4
        (np.repeat(np.arange(10), 20), 69, "in-between round smooth"),
        ([*range(10), *[4] * 350], 69, "smooth, cigar shaped"),
        # parts that may be of either, or of another survey
        (np.arange(20) % 10, 69, "3"),
        (np.arange(20) % 10, 18, "3"),
    ],
)
def test_both_galaxy10_files_have_their_own_classes(tmp_path, answers, size, third):
    sample = galaxies(tmp_path, answers, size)
    assert sample.classes[3] == third
    assert len(sample.classes) == 10
    assert sample.images.shape == (len(answers), 3, size, size)


def test_galaxy10_may_have_its_channels_last(tmp_path):
    with h5py.File(tmp_path / "Galaxy10.h5", "w") as file:
        file["images"], file["ans"] = COLOURS, np.arange(12, dtype=np.uint8) % 10
    sample = read_images(tmp_path / "Galaxy10.h5")
    np.testing.assert_array_equal(sample.images[:, 1], COLOURS[..., 1])


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_files(tmp_path, end):
    for split, part in (("train", slice(8)), ("t10k", slice(8, None))):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte{end}", IMAGES[part])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte{end}", LABELS[part])
    assert image_splits(tmp_path) == ["train", "test"]
    assert_same(read_images(tmp_path, "train"), IMAGES[:8], LABELS[:8])
    assert_same(read_images(tmp_path, "test"), IMAGES[8:], LABELS[8:])
    assert_same(read_images(tmp_path / f"t10k-images-idx3-ubyte{end}"), IMAGES[8:], LABELS[8:])


def test_folders_of_pictures(tmp_path):
    for i, (image, label) in enumerate(zip(COLOURS, LABELS, strict=True)):
        folder = tmp_path / "train" / ("upright" if label else "lying")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    order = np.argsort(LABELS, kind="stable")
    expected = np.moveaxis(COLOURS[order], -1, 1)
    assert image_splits(tmp_path) == ["train"]
    assert_same(read_images(tmp_path), expected, LABELS[order], ("lying", "upright"))
    assert read_images(tmp_path / "train" / "upright").labels is None


def test_pictures_of_16_bits_keep_their_values(tmp_path):
    deep = np.arange(0, 60_000, 1000, dtype=np.uint16).reshape(6, 10)
    for i in range(2):
        Image.fromarray(deep + i).save(tmp_path / f"{i}.png")
    images = read_images(tmp_path).images
    assert np.array_equal(images[1, 0].numpy(), (deep + 1).astype(np.float32))
    Image.fromarray(deep.astype(np.uint8)).save(tmp_path / "2.png")
    with pytest.raises(InputError, match=r"2\.png has shape .* type uint8, the pictures before it"):
        read_images(tmp_path)


def test_classes_that_do_not_occur_are_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=np.where(LABELS == 1, 5, 2))
    assert_same(read_images(tmp_path / "a.npz"), classes=("2", "5"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, r"no images: none of images, .*only \['pictures'\]"),
        ({"images": IMAGES, "labels": LABELS[:5]}, r"labels of shape \(5,\)"),
        ({"images": IMAGES, "labels": LABELS / 2}, "type float64"),
        ({"images": IMAGES[0, 0]}, r"shape \(18,\), uint8, is not images"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["one"]}, "labels 0 to 1 for 1 classes"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_images(tmp_path / "bad.npz")


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no zip")
    (tmp_path / "a.h5").write_bytes(b"no hdf5")
    write_idx(tmp_path / "a-images-idx3-ubyte", IMAGES)
    raw = (tmp_path / "a-images-idx3-ubyte").read_bytes()
    (tmp_path / "a-images-idx3-ubyte").write_bytes(raw[:-7])
    for name, message in {
        "a.npz": "not an npz file",
        "a.h5": "not an HDF5 file",
        "a-images-idx3-ubyte": "truncated",
        "a.txt": "not a file of images",
    }.items():
        (tmp_path / "a.txt").touch()
        with pytest.raises(InputError, match=message):
            read_images(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_images(tmp_path / "absent.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_file_is_refused_and_closed(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, images=IMAGES, labels=LABELS)
    good = path.read_bytes()
    directory = good.index(b"PK\x01\x02")
    damaged = {
        "the name of an array": good.replace(b"images.npy", b"\xff" * 10, 1),
        "an array": good[:200] + bytes([good[200] ^ 1]) + good[201:],
        "the table of contents": good[:directory] + b"QK" + good[directory + 2 :],
        "the end": good[:-30],
    }
    for data in damaged.values():
        path.write_bytes(data)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(InputError, match=r"a\.npz"):
                read_images(path)
            gc.collect()
        assert not caught


def test_pickled_images_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"pickled Python objects"):
        read_images(tmp_path / "a.npz")


def test_pixels_that_are_not_finite_are_refused_with_their_image(tmp_path):
    images = np.ones((5, 8, 8), dtype=np.float32)
    images[3, 2, 2] = np.nan
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(5) % 2)
    with pytest.raises(InputError, match=r"1 of 5 images have NaN .* the first is image 3"):
        read_images(tmp_path / "a.npz")


def test_pixels_that_were_never_written_take_no_memory(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**8, 8, 8), np.uint8, chunks=(10, 8, 8))
        file["labels"] = np.zeros(4, dtype=np.int64)
    with pytest.raises(InputError, match=r"a\.h5: data set '/images' of shape .* only 0 were"):
        read_images(tmp_path / "a.h5")


def test_an_hdf5_link_that_leads_nowhere_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.SoftLink("/nowhere")
    with pytest.raises(InputError, match=r"a\.h5"):
        read_images(tmp_path / "a.h5")


def test_a_false_shape_in_an_npz_file_takes_no_memory(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100))
    with pytest.raises(InputError, match=r"a\.npz: the size of images\.npy differs"):
        read_images(tmp_path / "a.npz")


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_files_of_a_false_size_are_refused(tmp_path, end):
    path = tmp_path / f"a-images-idx3-ubyte{end}"
    for shape in ((12, 18, 17), (2**32 - 1, 2**32 - 1, 2**32 - 1), (2**31, 2**31, 4), (0, 0, 0)):
        raw = bytes([0, 0, 8, 3]) + np.array(shape, ">u4").tobytes() + IMAGES.tobytes()
        path.write_bytes(gzip.compress(raw) if end else raw)
        with pytest.raises(InputError, match=r"truncated: .* values of|has more values"):
            read_images(path)
    path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(InputError, match="cannot read the idx file"):
        read_images(path)


def test_a_gzip_file_with_a_wrong_checksum_is_refused(tmp_path):
    path = tmp_path / "a-images-idx3-ubyte.gz"
    write_idx(path, IMAGES)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="CRC"):
        read_images(path)


def picture(folder, suffix):
    path = folder / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(COLOURS[0])).save(path)
    return path


def test_a_png_file_with_a_wrong_checksum_is_refused(tmp_path):
    path = picture(tmp_path, ".png")
    data = path.read_bytes()
    checksum = data.index(b"IEND") - 5  # the last byte of that of the pixels
    path.write_bytes(data[:checksum] + bytes([data[checksum] ^ 1]) + data[checksum + 1 :])
    with pytest.raises(InputError, match=r"a\.png: cannot read the picture"):
        read_images(tmp_path)


@pytest.mark.parametrize("suffix", [".tiff", ".bmp"])
def test_a_picture_of_a_false_size_takes_no_memory(tmp_path, suffix):
    path = picture(tmp_path, suffix)
    data = path.read_bytes()
    for place in range(len(data) - 1):
        if data[place : place + 2] == (18).to_bytes(2, "little"):  # width and height
            data = data[:place] + (9000).to_bytes(2, "little") + data[place + 2 :]
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"a{suffix}"):
        read_images(tmp_path)
