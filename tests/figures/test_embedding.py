"""Features in two dimensions: where they come from, their axes, and what the figures show."""

import numpy as np
import pytest
import torch

from trainables.figures import embedding
from trainables.interfaces import ImageData, Result, Split
from trainables.nets import models
from trainables.training import clustering

LABELS = torch.arange(40) % 3
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DATA = ImageData(
    "made up", Split(IMAGES, LABELS), Split(IMAGES, LABELS), ("a", "b", "c"), (0.5,), (0.2,), "made up",
)  # fmt: skip
FEATURES = np.random.default_rng(0).random((40, 6), np.float32)
ROWS = np.array([3, 5, 30])


def test_features_that_a_stage_left_are_taken() -> None:
    found = embedding.features([Result(arrays={"features_eval": FEATURES})], DATA, ROWS, None)
    assert found is not None and (found == FEATURES[ROWS]).all()


def test_centroids_are_of_the_space_that_was_clustered() -> None:
    last = Result(arrays={"centroids": np.zeros((3, 6))}, facts={"space": "head"})
    pretext = Result(arrays={"backbone_eval": FEATURES + 1, "head_eval": FEATURES})
    found = embedding.features([last, pretext], DATA, ROWS, None)
    assert found is not None and (found == FEATURES[ROWS]).all()
    assert embedding.features([last], DATA, ROWS, None) is None


def test_a_network_gives_its_own_features() -> None:
    made = clustering.fresh("small", DATA.shape, 3, 1, 0)
    last = Result(weights=clustering.parts(made), facts={"network": "small", "num_clusters": 3})
    found = embedding.features([last], DATA, ROWS, clustering.classifier(last, DATA))
    expected = models.predict(made, IMAGES[torch.from_numpy(ROWS)], DATA.mean, DATA.std).numpy()
    np.testing.assert_array_equal(found, expected)


def test_principal_components_of_a_line_are_its_direction() -> None:
    # Points t (3, 4) / 5 for t = -1, 0, 2: centered at 1/3, so the first component is t - 1/3 and the second nothing.
    points = np.outer([-1.0, 0.0, 2.0], [0.6, 0.8])
    places = embedding.pca_places(points)
    np.testing.assert_allclose(places, [[-4 / 3, 0], [-1 / 3, 0], [5 / 3, 0]], atol=1e-12)


def test_features_of_one_width_have_a_second_axis_of_nothing() -> None:
    places = embedding.pca_places(np.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_allclose(places, [[-1, 0], [0, 0], [1, 0]], atol=1e-12)


def test_points_that_are_all_alike_stay_at_the_origin() -> None:
    assert not embedding.tsne_places(np.ones((10, 3), np.float32)).any()


@pytest.mark.parametrize(("labels", "panels"), [(LABELS.numpy(), 2), (np.full(40, -1), 1)])
def test_clusters_stand_beside_classes_where_these_are_known(labels: np.ndarray, panels: int) -> None:
    drawn = embedding.drawn(FEATURES, np.arange(40) % 4, labels)
    assert list(drawn) == ["embedding_pca", "embedding_tsne"]
    axes = drawn["embedding_tsne"].axes
    assert len(axes) == panels and axes[0].get_title() == "t-SNE of the features, by cluster"
    assert len(axes[0].collections[0].get_offsets()) == 40


def test_a_cluster_has_the_color_of_its_class() -> None:
    # Cluster 0 holds class 1 and cluster 1 class 0; cluster 2 is one too many and gets a color of its own.
    clusters, labels = np.array([0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 0])
    assert embedding.colors(clusters, labels).tolist() == [1, 1, 0, 0, 2]
    assert embedding.colors(clusters, np.full(5, -1)).tolist() == [0, 0, 1, 1, 2]


def test_large_images_are_fewer() -> None:
    many = Split(torch.zeros(1200, 1, 8, 8, dtype=torch.uint8), torch.zeros(1200, dtype=torch.int64))
    wide = Split(torch.zeros(400, 1, 96, 96, dtype=torch.uint8), torch.zeros(400, dtype=torch.int64))
    for split, number in ((many, 1000), (wide, 300)):
        rows = embedding.chosen(ImageData("m", split, split, ("a",), (0.0,), (1.0,), "m"))
        assert len(rows) == len(set(rows.tolist())) == number and (np.diff(rows) > 0).all()


def test_rows_side_by_side_have_the_places_of_one_projection() -> None:
    models_of = {"one": FEATURES, "same": FEATURES.copy(), "other": FEATURES[::-1].copy()}
    figure = embedding.side_by_side(models_of, LABELS.numpy())
    assert [axes.get_title() for axes in figure.axes] == [
        f"{whose}: {what}" for whose in models_of for what in ("PCA", "t-SNE")
    ]
    places = [np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes]
    np.testing.assert_allclose(places[0], places[2], atol=1e-6)  # equal features have equal places
    np.testing.assert_allclose(places[0], places[4][::-1], atol=1e-6)
    assert {axes.get_xlim() for axes in figure.axes[::2]} == {figure.axes[0].get_xlim()}
