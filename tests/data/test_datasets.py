"""Data sets: what each Spec loads, what the fingerprint sees, and which files are refused with which words."""

import hashlib
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data import public_sets, splits
from trainables.data.datasets import Spec, load, located, meaning
from trainables.data.loaded import DataError, Raw
from trainables.interfaces import Split
from trainables.settings import SettingsError, effective
from trainables.settings import values as settings_of

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def picture(path: Path, level: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    """A grey ramp that starts at ``level``, written with the suffix's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = (np.arange(size[0]) * 10 + level).astype(np.uint8)
    Image.fromarray(np.tile(row, (size[1], 1))).convert("RGB").save(path)


def image_folder(root: Path, parts: tuple[str, ...] = ("train", "val"), num: int = 3) -> Path:
    for part in parts:
        for label, name in enumerate(("ant", "bee")):
            for index in range(num):
                picture(root / part / name / f"{index}.png", level=50 * label + index)
    return root


def folder_spec(root: Path, **changes: object) -> Spec:
    return Spec(name="folder", root=str(root), **changes)  # type: ignore[arg-type]


def test_digits_are_scikit_learns() -> None:
    data = load(Spec())
    assert (data.shape.num_train, data.shape.num_eval, data.shape.num_classes) == (1437, 360, 10)
    assert data.train.images_NCHW.shape == (1437, 1, 8, 8) and data.train.images_NCHW.dtype == torch.uint8
    assert data.train.images_NCHW.max() == 255 and len(data.train.images_NCHW.unique()) == 17


def test_digits_keep_every_image_once() -> None:
    split, union = load(Spec()), load(Spec(protocol="union"))
    both_XP = torch.cat([split.train.images_NCHW, split.eval.images_NCHW]).flatten(1)
    assert len(both_XP) == 1797
    found = sorted(map(tuple, both_XP.tolist()))
    assert found == sorted(map(tuple, union.train.images_NCHW.flatten(1).tolist()))


def test_union_trains_and_judges_on_the_same_images() -> None:
    data = load(Spec(protocol="union"))
    assert len(data.train) == 1797 and data.eval is data.train


def test_loading_twice_gives_the_same_data() -> None:
    first, second = load(Spec()), load(Spec())
    assert first.fingerprint == second.fingerprint and torch.equal(first.eval.labels_N, second.eval.labels_N)


def test_digits_fingerprint_is_the_same_on_every_machine() -> None:
    assert load(Spec()).fingerprint == "2f2587ec971f3602633a9d9f6eb794cb9b69357a78592816322a6cb9fbad505b"


def test_mean_and_std_are_those_of_the_training_pixels() -> None:
    data = load(Spec())
    pixels = data.train.images_NCHW.double() / 255
    assert data.mean == pytest.approx([pixels.mean().item()]) and data.std == pytest.approx(
        [pixels.std(correction=0).item()]
    )


def test_limits_draw_that_many_images_in_order() -> None:
    data = load(Spec(train_limit=100, eval_limit=50))
    assert (len(data.train), len(data.eval)) == (100, 50)


def test_a_limit_above_the_images_there_are_is_refused() -> None:
    with pytest.raises(DataError, match="eval_limit must be at most the 360 images there are, but is 361. Set it to 0"):
        load(Spec(eval_limit=361))


def test_images_are_resized_on_loading() -> None:
    data = load(Spec(image_size=16, train_limit=20))
    assert data.train.images_NCHW.shape == (20, 1, 16, 16) and data.train.images_NCHW.dtype == torch.uint8


def test_shrinking_counts_every_pixel(tmp_path: Path) -> None:
    checks_HW = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    images = torch.from_numpy(checks_HW).expand(2, 1, 32, 32)
    resized = splits.resized(Split(images, torch.zeros(2)), 8)
    # A chessboard of single pixels is half grey from afar; without antialiasing it would stay black and white.
    assert (resized.images_NCHW[:].int() - 127).abs().max() <= 3


@pytest.mark.parametrize("changes", [{"train_limit": 99}, {"eval_limit": 99}, {"image_size": 9}, {"protocol": "union"}])
def test_fingerprint_sees_what_changes_the_images(changes: dict[str, object]) -> None:
    assert load(Spec(**changes)).fingerprint != load(Spec()).fingerprint  # type: ignore[arg-type]


def test_fingerprint_does_not_see_where_the_files_lie(tmp_path: Path) -> None:
    first, second = (load(folder_spec(image_folder(tmp_path / name))) for name in ("here", "there"))
    assert first.fingerprint == second.fingerprint


def test_fingerprint_sees_one_changed_pixel(tmp_path: Path) -> None:
    before = load(folder_spec(image_folder(tmp_path))).fingerprint
    picture(tmp_path / "val" / "bee" / "0.png", level=51)
    assert load(folder_spec(tmp_path)).fingerprint != before


def test_fingerprint_sees_one_changed_label(tmp_path: Path) -> None:
    before = load(folder_spec(image_folder(tmp_path))).fingerprint
    (tmp_path / "train" / "ant" / "2.png").rename(tmp_path / "train" / "bee" / "00.png")
    assert load(folder_spec(tmp_path)).fingerprint != before


def test_settings_that_do_not_count_are_not_effective() -> None:
    assert effective(Spec(protocol="union")).keys() == {
        "name",
        "protocol",
        "train_limit",
        "image_size",
        "resize",
        "normalization",
    }


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("name", "imagenette", "name must be one of digits, mnist, .*, folder, features, but is 'imagenette'"),
        ("train_limit", -1, "train_limit must be at least 0, but is -1"),
        ("image_size", 7, "image_size must be 0 or at least 8 px, but is 7"),
    ],
)
def test_a_bad_setting_is_refused(setting: str, value: object, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Spec(**{setting: value})  # type: ignore[arg-type]


def test_a_folder_is_read_in_sorted_order(tmp_path: Path) -> None:
    data = load(folder_spec(image_folder(tmp_path)))
    assert data.class_names == ("ant", "bee")
    assert data.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.images_NCHW.shape == (6, 3, 8, 8)
    assert data.train.images_NCHW[:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52]


@pytest.mark.parametrize("beside", ["val", "test", "eval"])
def test_the_part_for_evaluation_has_three_names(tmp_path: Path, beside: str) -> None:
    assert len(load(folder_spec(image_folder(tmp_path, ("train", beside)))).eval) == 6


def test_class_folders_alone_are_divided_class_by_class(tmp_path: Path) -> None:
    data = load(folder_spec(image_folder(tmp_path, ("",), num=10)))
    assert data.train.labels_N.bincount().tolist() == [8, 8] and data.eval.labels_N.bincount().tolist() == [2, 2]


def test_union_of_a_folder_joins_its_parts(tmp_path: Path) -> None:
    assert len(load(folder_spec(image_folder(tmp_path), protocol="union")).eval) == 12


@pytest.mark.parametrize("parts", [("train",), ("train", "val")])
def test_protocol_train_reads_the_training_part_alone(tmp_path: Path, parts: tuple[str, ...]) -> None:
    data = load(folder_spec(image_folder(tmp_path, parts), protocol="train"))
    assert data.is_union and len(data.train) == 6


def test_paths_no_longer_depend_on_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, fields = image_folder(tmp_path / "here"), {"name": "folder", "root": "here", "image_size": 8}
    monkeypatch.chdir(tmp_path)
    found = located({**fields, "classes": "list.txt", "labels": ""})
    monkeypatch.chdir("/")
    assert found == {**fields, "root": str(tmp_path / "here"), "classes": str(tmp_path / "list.txt"), "labels": ""}
    assert folder.is_relative_to(str(found["root"]))


def test_protocol_train_has_the_training_images_of_the_split() -> None:
    split, train = load(Spec()), load(Spec(protocol="train"))
    assert torch.equal(split.train.images_NCHW[:], train.train.images_NCHW[:]) and train.is_union
    assert split.fingerprint != train.fingerprint
    with pytest.raises(SettingsError, match="protocol must be one of split, union, train"):
        Spec(protocol="test")


def test_union_needs_no_second_part(tmp_path: Path) -> None:
    assert len(load(folder_spec(image_folder(tmp_path, ("train",)), protocol="union")).eval) == 6


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("x")
    (tmp_path / "train" / "ant" / "._0.png").write_text("x")
    (tmp_path / "train" / ".cache").mkdir()
    assert len(load(folder_spec(tmp_path)).train) == 6


def test_image_size_keeps_the_middle_square(tmp_path: Path) -> None:
    image_folder(tmp_path)
    picture(tmp_path / "train" / "ant" / "0.png", size=(24, 8))
    data = load(folder_spec(tmp_path, image_size=8))
    # Columns 8 to 15 of a ramp of 10 a column.
    assert data.train.images_NCHW[0, 0, 0].tolist() == list(range(80, 160, 10))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is not a folder. Set root to a folder of images, with class folders"):
        load(folder_spec(tmp_path / "nowhere"))


def test_a_folder_with_one_class_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "ant" / "0.png")
    with pytest.raises(DataError, match=r"must hold a folder for each of at least two classes, but holds 1 \(ant\)"):
        load(folder_spec(tmp_path, labels="folders"))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least two classes, but holds 0 \(none\)"):
        load(folder_spec(tmp_path, labels="folders"))
    with pytest.raises(DataError, match=r"holds no image \(.*\). Add images"):
        load(folder_spec(tmp_path))


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    (image_folder(tmp_path) / "train" / "bee" / "0.png").unlink()
    (tmp_path / "val" / "ant" / "0.png").unlink()
    for index in (1, 2):
        (tmp_path / "val" / "ant" / f"{index}.png").unlink()
    with pytest.raises(DataError, match=r"val/ant holds no image"):
        load(folder_spec(tmp_path))


def test_parts_with_other_classes_are_refused(tmp_path: Path) -> None:
    picture(image_folder(tmp_path) / "val" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"val and .*train must hold the same classes, but 'cat' is in only one"):
        load(folder_spec(tmp_path))


def test_a_training_part_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="none of val, valid, validation, test, eval beside it. Add one, or set protocol: union"
    ):
        load(folder_spec(image_folder(tmp_path, ("train",))))


def test_a_class_of_one_image_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ant must hold at least two images.*but holds 1"):
        load(folder_spec(image_folder(tmp_path, ("",), num=1)))


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (image_folder(tmp_path) / "train" / "bee" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"bee/1.png is empty \(0 bytes\). Copy it again, or remove it"):
        load(folder_spec(tmp_path))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = image_folder(tmp_path) / "val" / "ant" / f"9.{suffix}"
    picture(path, size=(64, 64))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=rf"9.{suffix} is no readable image \(.*\). It was cut short"):
        load(folder_spec(tmp_path))


def test_a_text_with_an_images_name_is_named(tmp_path: Path) -> None:
    (image_folder(tmp_path) / "train" / "ant" / "9.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"9.jpg is no readable image \(cannot identify"):
        load(folder_spec(tmp_path))


def test_all_faulty_files_are_named_at_once(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (image_folder(tmp_path) / "train" / name / "9.png").write_bytes(b"")
    (tmp_path / "train" / "ant" / "9.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)ant/9.png is empty.*bee/9.png is empty"):
        load(folder_spec(tmp_path))


def test_gray_levels_of_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    path = image_folder(tmp_path) / "train" / "ant" / "9.png"
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(path)
    # 40,000 / 257 is 155.6.
    data = load(folder_spec(tmp_path))
    row = data.train.names.index("train/ant/9.png")
    assert data.train.images_NCHW[row].unique().tolist() == [156]


def test_images_of_two_sizes_need_an_image_size(tmp_path: Path) -> None:
    picture(image_folder(tmp_path) / "train" / "ant" / "9.png", size=(9, 9))
    with pytest.raises(DataError, match=r"there are 2 sizes, among them 8x8, 9x9 px. Set image_size"):
        load(folder_spec(tmp_path))


def test_images_of_one_level_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / part / name / "0.png")
    with pytest.raises(DataError, match="Every training pixel of channel 0 of 'folder' has the same value"):
        load(folder_spec(tmp_path))


@pytest.mark.parametrize(
    ("name", "first"), [("mnist", "MNIST/raw/train-images-idx3"), ("cifar10", "cifar-10-batches-py/data_batch_1")]
)
def test_missing_files_are_named_with_the_way_out(tmp_path: Path, name: str, first: str) -> None:
    with pytest.raises(DataError, match=rf"{first}.* is missing: .*Set download: true"):
        load(Spec(name=name, root=str(tmp_path)))


def test_an_altered_pickle_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in public_sets.CIFAR10_MD5:
        # Protocol 0 of a pickle that would write a file when opened.
        (folder / name).write_bytes(b"cbuiltins\nopen\n(S'" + str(tmp_path / "opened").encode() + b"'\nS'w'\ntR.")
    with pytest.raises(DataError, match=r"data_batch_1 is not the published file: its md5 must be c99cafc1.*, but is"):
        load(Spec(name="cifar10", root=str(tmp_path)))
    assert not (tmp_path / "opened").exists()


def test_files_that_would_be_read_unchecked_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in public_sets.MNIST_MD5:
        (raw / name).write_bytes(b"x")
    known = hashlib.md5(b"x").hexdigest()
    monkeypatch.setattr(public_sets, "MNIST_MD5", dict.fromkeys(public_sets.MNIST_MD5, known))
    (tmp_path / "MNIST" / "processed").mkdir()
    (tmp_path / "MNIST" / "processed" / "training.pt").write_bytes(b"")
    with pytest.raises(DataError, match=r"processed would be read instead of the checked files"):
        load(Spec(name="mnist", root=str(tmp_path)))


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", unreachable)
    with pytest.raises(DataError, match=r"CIFAR10 could not be downloaded into .*no route.* copy the folder"):
        load(Spec(name="cifar10", root=str(tmp_path), download=True))


def test_published_mean_and_std_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = public_sets.digits()
    monkeypatch.setattr(public_sets, "digits", lambda: Raw(raw.train, raw.eval, raw.class_names, (0.25,), (0.5,)))
    data = load(Spec())
    assert (data.mean, data.std) == ((0.25,), (0.5,))


@pytest.fixture(scope="module")
def real_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpack = SHARED / "unpack.py"
    if not unpack.is_file():
        pytest.skip("the kept copies of MNIST and CIFAR-10 in ../shared/data are not there")
    root = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(unpack), str(root)], check=True, capture_output=True)
    return root


@pytest.mark.slow
def test_mnist_is_read(real_root: Path) -> None:
    data = load(Spec(name="mnist", root=str(real_root)))
    assert data.train.images_NCHW.shape == (60_000, 1, 28, 28) and data.eval.images_NCHW.shape == (10_000, 1, 28, 28)
    assert data.train.labels_N[:5].tolist() == [5, 0, 4, 1, 9]
    # 16 bytes of header, then the pixels row by row.
    pixels = (real_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert data.eval.images_NCHW[:].numpy().tobytes() == pixels
    # The usual figures.
    assert data.mean == pytest.approx((0.1307,), abs=1e-4) and data.std == pytest.approx((0.3081,), abs=1e-4)


@pytest.mark.slow
def test_cifar10_is_read(real_root: Path) -> None:
    data = load(Spec(name="cifar10", root=str(real_root)))
    assert data.train.images_NCHW.shape == (50_000, 3, 32, 32) and data.eval.images_NCHW.shape == (10_000, 3, 32, 32)
    assert data.train.labels_N.bincount().tolist() == [5000] * 10
    batch = (real_root / "cifar-10-batches-py" / "data_batch_5").read_bytes()
    assert data.train.images_NCHW[40_000:].numpy().tobytes() in batch
    assert data.class_names[:2] == ("airplane", "automobile") and data.mean == (0.4914, 0.4822, 0.4465)
    assert (data.train.images_NCHW.double().mean((0, 2, 3)) / 255).tolist() == pytest.approx(data.mean, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [("mnist", "MNIST/raw/t10k-labels-idx1-ubyte")])
def test_a_truncated_official_file_is_named(real_root: Path, tmp_path: Path, name: str, file: str) -> None:
    for path in real_root.rglob("MNIST/raw/*"):
        (tmp_path / path.relative_to(real_root)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.relative_to(real_root)).symlink_to(path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink()
    (tmp_path / file).write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"{file} is not the published file.*\(10007 bytes\)"):
        load(Spec(name=name, root=str(tmp_path)))


@pytest.mark.parametrize("changes", [{}, {"stream": "always"}, {"image_size": 16}])
@pytest.mark.parametrize("limits", [{}, {"protocol": "union"}, {"train_limit": 4, "eval_limit": 3}])
def test_every_image_has_its_files_name_in_the_order_of_the_rows(
    tmp_path: Path, changes: dict[str, object], limits: dict[str, object]
) -> None:
    data = load(folder_spec(image_folder(tmp_path), **{"image_size": 8, **changes, **limits}), torch.device("cpu"))
    for part in (data.train, data.eval):
        assert len(part.names) == len(part)
        for row, name in enumerate(part.names):
            with Image.open(Path(data.root) / name) as image:
                size = part.images_NCHW.shape[-2:]
                expected_HWC = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
            found_HWC = part.images_NCHW[row : row + 1][0].permute(1, 2, 0).numpy().astype(int)
            assert np.abs(expected_HWC - found_HWC).max() <= 2


@pytest.mark.parametrize("protocol", ["split", "union"])
def test_an_image_of_a_published_set_has_its_row_for_a_name(protocol: str) -> None:
    whole, data = public_sets.digits(), load(Spec(protocol=protocol, train_limit=50))
    images = [*whole.train.images_NCHW, *whole.eval.images_NCHW]
    by_name = dict(zip(whole.train.names + whole.eval.names, images, strict=True))
    assert len(by_name) == 1797 and data.root == ""
    for part in (data.train, data.eval, data.to(torch.device("cpu")).train):
        assert torch.equal(torch.stack([by_name[name] for name in part.names]), part.images_NCHW[:])


def test_cubic_resizing_is_pillow_s_in_memory_and_from_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pixels_HWC = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    for part in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(pixels_HWC).save(folder / f"{number}.png")
    wanted_HWC = np.asarray(Image.fromarray(pixels_HWC).resize((12, 12), Image.Resampling.BICUBIC))
    read = load(folder_spec(tmp_path, image_size=12, resize="bicubic")).train.images_NCHW[:][0]
    streamed = load(folder_spec(tmp_path, image_size=12, resize="bicubic", stream="always")).train.images_NCHW
    linear = load(folder_spec(tmp_path, image_size=12)).train.images_NCHW[:][0]
    in_memory = splits.resized(
        Split(torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None], torch.zeros(1)), 12, "bicubic"
    )
    assert np.array_equal(read.permute(1, 2, 0).numpy(), wanted_HWC)
    assert torch.equal(streamed[torch.tensor([0])][0], read) and not torch.equal(linear, read)
    assert int((in_memory.images_NCHW[:][0].int() - read.int()).abs().max()) <= 1


def test_a_checkpoint_s_normalization_may_take_the_place_of_the_data_set_s(tmp_path: Path) -> None:
    image_folder(tmp_path)
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    own, imagenet = (load(folder_spec(tmp_path, normalization=each)) for each in ("data", "imagenet"))
    assert (imagenet.mean, imagenet.std) == (public_sets.IMAGENET_MEAN, public_sets.IMAGENET_STD) != (own.mean, own.std)
    assert own.fingerprint != imagenet.fingerprint
    with pytest.raises(SettingsError, match="normalization: imagenet needs images of three channels"):
        Spec(name="mnist", normalization="imagenet")


def test_a_data_set_that_is_read_as_ever_means_what_it_meant() -> None:
    fields = settings_of(Spec())
    assert not {"resize", "normalization"} & set(meaning(fields))
    assert meaning({**fields, "resize": "bicubic"})["resize"] == "bicubic"
