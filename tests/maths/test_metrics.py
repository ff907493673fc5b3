"""Metrics against golden numbers of an independent script, scikit-learn, and tables small enough to work by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from trainables.maths import metrics

LABELS_N = np.array([0, 0, 1, 1, 2, 2])
THREE = metrics.contingency(np.array([1, 1, 0, 0, 0, 2]), LABELS_N, 3, 3)
FOUR = metrics.contingency(np.array([0, 1, 2, 2, 3, 3]), LABELS_N, 4, 3)


def test_contingency_has_a_row_per_cluster_and_leaves_unlabeled_images_out() -> None:
    counts_CY = metrics.contingency(np.array([0, 2, 2, 1]), np.array([1, 0, 0, -1]), 3, 2)
    assert counts_CY.tolist() == [[0, 1], [0, 0], [2, 0]]


@pytest.mark.parametrize(
    ("predicted", "labels", "text"),
    [
        ([0, 3], [0, 1], "clusters must be below 3, but go from 0 to 3"),
        ([0, 1], [0, 2], "labels must be below 2, but go from 0 to 2"),
        ([0], [0, 1], "1 predictions for 2 labels"),
    ],
)
def test_contingency_refuses_what_it_cannot_count(predicted: list[int], labels: list[int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        metrics.contingency(np.array(predicted), np.array(labels), 3, 2)


def test_three_clusters_get_the_golden_numbers() -> None:
    found = [metrics.accuracy(THREE), metrics.majority_accuracy(THREE), metrics.nmi(THREE), metrics.ari(THREE)]
    assert found == pytest.approx([0.833333, 0.833333, 0.739667, 0.444444], abs=1e-6)


def test_geometric_nmi_is_the_golden_number() -> None:
    assert metrics.nmi(THREE, "geometric") == pytest.approx(0.740300, abs=1e-6)


def test_four_clusters_of_three_classes_get_the_golden_numbers() -> None:
    found = [metrics.accuracy(FOUR), metrics.majority_accuracy(FOUR), metrics.nmi(FOUR), metrics.ari(FOUR)]
    assert found == pytest.approx([0.833333, 1.0, 0.904850, 0.761905], abs=1e-6)


def test_bcubed_of_the_links_within_clusters_is_the_golden_number() -> None:
    clusters_N = np.array([1, 1, 0, 0, 0, 2])
    found = metrics.bcubed(clusters_N[:, None] == clusters_N[None, :], LABELS_N)
    assert found["bcubed_precision"] == pytest.approx(0.777778, abs=1e-6)
    assert found["bcubed_recall"] == pytest.approx(0.833333, abs=1e-6)
    assert found["bcubed_f"] == pytest.approx(2 * 7 / 9 * 5 / 6 / (7 / 9 + 5 / 6))


def test_bcubed_links_each_image_to_itself() -> None:
    assert metrics.bcubed(np.zeros((6, 6), dtype=bool), LABELS_N)["bcubed_precision"] == 1.0


@pytest.mark.parametrize("num_clusters", [3, 10, 25])
def test_nmi_and_ari_agree_with_scikit_learn(num_clusters: int) -> None:
    rng = np.random.default_rng(0)
    labels_N = rng.integers(10, size=1797)
    predicted_N = np.where(rng.random(1797) < 0.6, labels_N % num_clusters, rng.integers(num_clusters, size=1797))
    counts_CY = metrics.contingency(predicted_N, labels_N, num_clusters, 10)
    assert metrics.nmi(counts_CY) == pytest.approx(normalized_mutual_info_score(labels_N, predicted_N), abs=1e-12)
    assert metrics.ari(counts_CY) == pytest.approx(adjusted_rand_score(labels_N, predicted_N), abs=1e-12)


def test_ari_of_a_million_images_does_not_overflow() -> None:
    assert metrics.ari(np.diag([2_000_000, 3_000_000])) == 1.0
    assert abs(metrics.ari(np.full((1000, 1000), 2000))) < 1e-3


@pytest.mark.parametrize(("counts", "nmi", "ari"), [([[4]], 1.0, 1.0), ([[4], [3]], 0.0, 0.0), ([[4, 3]], 0.0, 0.0)])
def test_one_class_or_one_cluster_has_defined_numbers(counts: list[list[int]], nmi: float, ari: float) -> None:
    counts_CY = np.array(counts)
    assert (metrics.nmi(counts_CY), metrics.ari(counts_CY)) == (nmi, ari)


def test_hungarian_map_leaves_surplus_and_empty_clusters_without_a_class() -> None:
    counts_CY = np.array([[5, 0], [0, 0], [1, 4]])
    assert metrics.hungarian_map(counts_CY).tolist() == [0, -1, 1]
    assert metrics.hungarian_map(np.array([[5, 0], [0, 0]])).tolist() == [0, -1]


def test_accuracy_with_fewer_clusters_than_classes_leaves_a_class_out() -> None:
    assert metrics.accuracy(np.array([[5, 0, 1], [0, 3, 1]])) == 0.8


@pytest.mark.parametrize("num_clusters", [3, 4, 5])
def test_old_and_new_accuracy_are_of_the_best_map_of_all_images(num_clusters: int) -> None:
    rng = np.random.default_rng(num_clusters)
    # Every one-to-one map, those that leave clusters without a class among them; several may be best.
    maps = set(itertools.permutations([*range(4), *[-1] * num_clusters], num_clusters))
    for _ in range(5):
        clusters_N, labels_N = rng.integers(num_clusters, size=30), rng.integers(4, size=30)
        counts_CY = metrics.contingency(clusters_N, labels_N, num_clusters, 4)
        right = [np.array(each)[clusters_N] == labels_N for each in maps]
        most, old_N = max(int(right_N.sum()) for right_N in right), labels_N < 2
        best = {(right_N[old_N].mean(), right_N[~old_N].mean()) for right_N in right if right_N.sum() == most}
        found = metrics.old_and_new_accuracy(counts_CY, [0, 1])
        assert any(found == {"acc_old": pytest.approx(old), "acc_new": pytest.approx(new)} for old, new in best)
        together = (found["acc_old"] * old_N.sum() + found["acc_new"] * (~old_N).sum()) / 30
        assert together == pytest.approx(metrics.accuracy(counts_CY))


def test_accuracy_of_classes_without_an_image_is_left_out() -> None:
    # Both images of class 0 lie in one cluster, the only one of class 1 in another.
    counts_CY = np.array([[2, 0, 0], [0, 1, 0]])
    assert metrics.old_and_new_accuracy(counts_CY, [0, 1]) == {"acc_old": 1.0}
    assert metrics.old_and_new_accuracy(counts_CY, [0]) == {"acc_old": 1.0, "acc_new": 1.0}


def test_top5_counts_the_five_best_clusters_and_unmapped_ones_never_match() -> None:
    # Image 0: its class 0 is cluster 5, the sixth best. Image 1: class 1 is cluster 0, the best. Image 2: class 2
    # has no cluster. Image 3 has no label.
    probabilities_NC = torch.tensor([[0.30, 0.25, 0.20, 0.15, 0.07, 0.03]] * 4)
    class_C = [1, -1, -1, -1, -1, 0]
    share = metrics.top5(probabilities_NC, torch.tensor([0, 1, 2, -1]), class_C)
    assert share == pytest.approx(1 / 3)


def test_top5_of_equal_probabilities_takes_the_first_five() -> None:
    probabilities_NC = torch.full((2, 6), 1 / 6)
    assert metrics.top5(probabilities_NC, torch.tensor([4, 5]), range(6)) == 0.5


def test_top5_agrees_with_sorting() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities_NC = torch.softmax(torch.randn(500, 20, generator=generator), dim=1)
    labels_N = torch.randint(20, (500,), generator=generator)
    class_C = torch.randperm(20, generator=generator)
    sorted_share = (class_C[probabilities_NC.topk(5).indices] == labels_N[:, None]).any(dim=1).double().mean()
    assert metrics.top5(probabilities_NC, labels_N, class_C) == pytest.approx(float(sorted_share))


def test_top5_of_four_clusters_is_undefined() -> None:
    assert metrics.top5(torch.full((2, 4), 0.25), torch.tensor([0, 1]), range(4)) is None


def test_a_probability_at_the_threshold_is_not_confident() -> None:
    probabilities_NC = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875], [0.0, 1.0]])
    assert metrics.confident_count(probabilities_NC, 0.75) == 2
    assert metrics.confident_fraction(probabilities_NC, 0.75) == 0.5


def test_cluster_sizes_are_shares_and_the_entropy_is_one_for_even_clusters() -> None:
    assert metrics.cluster_sizes(np.array([0, 0, 1, 1]), 2) == {
        "cluster_share_min": 0.5,
        "cluster_share_max": 0.5,
        "num_empty_clusters": 0.0,
        "cluster_entropy": pytest.approx(1.0),
    }


def test_cluster_sizes_of_a_collapse_have_entropy_zero_and_count_the_empty_ones() -> None:
    sizes = metrics.cluster_sizes(np.array([1, 1, 1]), 4)
    assert (sizes["cluster_share_min"], sizes["cluster_share_max"]) == (0.0, 1.0)
    assert (sizes["num_empty_clusters"], sizes["cluster_entropy"]) == (3.0, 0.0)


def test_purity_leaves_the_image_itself_and_unlabeled_pairs_out() -> None:
    # Pairs: 0-1 alike, 0-2 not, 1-0 alike, 1-2 not; 2 has neighbors 3 (unlabeled) and 0 (not alike); 3 is unlabeled.
    neighbors_NK = np.array([[0, 1, 2], [1, 0, 2], [2, 3, 0], [3, 0, 1]])
    labels_N = np.array([5, 5, 6, -1])
    assert metrics.neighbor_purity(neighbors_NK, labels_N) == pytest.approx(2 / 5)


def test_purity_without_labels_is_no_number() -> None:
    assert math.isnan(metrics.neighbor_purity(np.array([[0, 1], [1, 0]]), np.array([-1, -1])))


def test_near_neighbors_outvote_many_far_ones() -> None:
    # exp(.9/.1) = 8103 for class 1 against 2 exp(.5/.1) = 297 for class 0; at temperature 10, 1.09 against 2.10.
    similarities_MK, labels_MK = np.array([[0.9, 0.5, 0.5]]), np.array([[1, 0, 0]])
    assert metrics.knn_accuracy(similarities_MK, labels_MK, np.array([1]), temperature=0.1) == 1.0
    assert metrics.knn_accuracy(similarities_MK, labels_MK, np.array([1]), temperature=10.0) == 0.0


def test_neighbors_and_queries_without_a_label_do_not_vote_or_count() -> None:
    similarities_MK, labels_MK = np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[-1, 1], [0, 0]])
    assert metrics.knn_accuracy(similarities_MK, labels_MK, np.array([1, -1]), temperature=0.1) == 1.0


def test_evaluate_reports_a_perfect_clustering_of_two_classes() -> None:
    probabilities_NC = torch.tensor([[0.875, 0.125], [0.75, 0.25], [0.125, 0.875], [0.0, 1.0]])
    assert metrics.evaluate(probabilities_NC, torch.tensor([1, 1, 0, 0]), 0.8) == {
        "acc": 1.0,
        "nmi": pytest.approx(1.0),
        "ari": 1.0,
        "confident_fraction": 0.75,
        "confident_90": 0.25,
        "confident_95": 0.25,
        "confident_99": 0.25,
        "cluster_share_min": 0.5,
        "cluster_share_max": 0.5,
        "num_empty_clusters": 0.0,
        "cluster_entropy": pytest.approx(1.0),
    }


def test_evaluate_adds_majority_accuracy_and_top5_where_they_mean_something() -> None:
    found = metrics.evaluate(torch.eye(6), torch.tensor([0, 0, 1, 1, 2, 2]), 0.9)
    assert (found["acc"], found["acc_majority"]) == (0.5, 1.0)
    assert tuple(found) == metrics.EVALUATION_METRICS


def test_more_clusters_than_classes_are_merged_into_classes_before_they_are_judged() -> None:
    # 20 clusters of 250 images each, two to a class, all right. ARI of the raw clusters, with pairs as shares of all:
    # (0.05 - 0.005) / ((0.05 + 0.1) / 2 - 0.005) = 0.643 for many images.
    labels_N = np.repeat(np.arange(10), 500)
    found = metrics.evaluate_labels(np.repeat(np.arange(20), 250), labels_N, 20, 10)
    assert found["ari"] == pytest.approx(0.642, abs=1e-3) and found["acc"] == 0.5
    assert (found["acc_majority"], found["nmi_majority"], found["ari_majority"]) == (1.0, pytest.approx(1.0), 1.0)


@pytest.mark.parametrize("num_clusters", [2, 3, 4])
def test_merged_numbers_are_of_more_clusters_than_classes_alone(num_clusters: int) -> None:
    found = metrics.evaluate_labels(np.array([0, 1, 1, 0]), np.array([0, 1, 2, 2]), num_clusters, 3)
    assert {name for name in found if name.endswith("_majority")} == (
        {"acc_majority", "nmi_majority", "ari_majority"} if num_clusters > 3 else set()
    )


def test_merging_keeps_every_image_and_takes_the_smaller_of_two_equal_classes() -> None:
    counts_CY = np.array([[2, 2, 0], [0, 1, 5], [0, 3, 0], [0, 0, 0]])
    assert metrics.merged(counts_CY).tolist() == [[2, 2, 0], [0, 3, 0], [0, 1, 5]]


def test_groups_of_images_are_judged_under_the_map_of_all() -> None:
    # Cluster 0 is class 0 by three images of four; alone, the last two images would make it class 1.
    predicted_N, labels_N = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, -1])
    groups = {"last": np.array([0, 0, 0, 1, 0, 1], dtype=bool), "none": np.array([0, 0, 0, 0, 0, 1], dtype=bool)}
    assert metrics.accuracies_within(predicted_N, labels_N, groups, 2, 2) == {"last": 0.0}


def test_a_confidence_curve_has_fewer_and_righter_images_at_higher_thresholds() -> None:
    rows_NC = torch.tensor([[0.99, 0.01], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    points = metrics.confidence_curve(rows_NC, torch.tensor([0, 0, 1, 1]), (0.5, 0.85, 0.999), num_classes=2)
    assert points[:2] == [(1.0, 0.75), (0.5, 1.0)] and points[2][0] == 0.0 and np.isnan(points[2][1])


def test_evaluate_without_labels_reports_label_free_metrics_alone() -> None:
    found = metrics.evaluate(torch.eye(3), torch.tensor([-1, -1, -1]), 0.9)
    assert set(found) == {
        "confident_fraction",
        "confident_90",
        "confident_95",
        "confident_99",
        "cluster_share_min",
        "cluster_share_max",
        "num_empty_clusters",
        "cluster_entropy",
    }


def test_unlabeled_images_count_in_label_free_metrics() -> None:
    found = metrics.evaluate(torch.eye(2)[[0, 1, 1, 1]], torch.tensor([0, 1, -1, -1]), 0.9)
    assert (found["acc"], found["cluster_share_max"]) == (1.0, 0.75)


def test_a_class_that_no_image_shows_still_counts_as_one() -> None:
    found = metrics.evaluate(torch.eye(3)[:2], torch.tensor([0, 1]), 0.9, num_classes=3)
    assert "acc_majority" not in found


def test_evaluate_refuses_a_model_that_has_diverged() -> None:
    with pytest.raises(ValueError, match="row 1 holds a NaN; the model has diverged"):
        metrics.evaluate(torch.tensor([[1.0, 0.0], [float("nan"), 0.5]]), torch.tensor([0, 1]), 0.9)


def test_evaluate_refuses_an_empty_data_set() -> None:
    with pytest.raises(ValueError, match="there are no images to evaluate"):
        metrics.evaluate(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 0.9)


@pytest.mark.parametrize(
    "name",
    [
        "acc",
        "spc/acc",
        "scan/acc_majority",
        "nmi_majority",
        "top5",
        "purity_20",
        "simclr/knn_acc",
        "lp_acc",
        "bcubed_f",
    ],
)
def test_metrics_that_needed_labels_are_known_by_name(name: str) -> None:
    assert metrics.looks_at_labels(name)


@pytest.mark.parametrize("name", ["loss", "spc/loss", "uad/assignment_nmi", "confident_fraction", "variance"])
def test_label_free_metrics_are_known_by_name(name: str) -> None:
    assert not metrics.looks_at_labels(name)


def test_every_evaluation_metric_is_on_its_side() -> None:
    free = {"confident_fraction", "confident_90", "confident_95", "confident_99"} | {
        "cluster_share_min",
        "cluster_share_max",
        "num_empty_clusters",
        "cluster_entropy",
    }
    assert {name for name in metrics.EVALUATION_METRICS if not metrics.looks_at_labels(name)} == free


def test_bcubed_of_predictions_averages_precision_and_recall_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BCUBED_BLOCK", 3)
    rows_NC = torch.eye(3)[torch.tensor([0, 0, 1, 2, 2, 2, 0])]
    labels_N, order_N = torch.tensor([0, 0, 0, 1, 1, 2, -1]), torch.tensor([6, 0, 1, 2, 3, 4, 5])
    found = metrics.bcubed_of_predictions(rows_NC, labels_N, lambda rows: rows @ rows.T > 0.5, order_N)
    # Without the unlabeled image there are two blocks. In the first all links are right, 2, 2 and 1 of 3 images are
    # found; in the second 2, 2 and 1 of 3 links are right and all images are found.
    precision, recall = (1 + 5 / 9) / 2, (5 / 9 + 1) / 2
    assert found["bcubed_precision"] == pytest.approx(precision) and found["bcubed_recall"] == pytest.approx(recall)
    assert found["bcubed_f"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_bcubed_of_predictions_without_labels_is_nothing() -> None:
    labels_N = torch.full((4,), -1)
    assert metrics.bcubed_of_predictions(torch.eye(4), labels_N, lambda rows: rows > 0, torch.arange(4)) == {}


@pytest.mark.parametrize("num_classes", [0, 2, 5])
def test_accuracies_within_groups_without_labels_are_left_out(num_classes: int) -> None:
    predicted_N, unknown_N = np.array([0, 1, 2, 0]), np.full(4, -1)
    groups = {"all": np.ones(4, dtype=bool)}
    assert metrics.accuracies_within(predicted_N, unknown_N, groups, 3, num_classes) == {}
    rows_NC = torch.eye(3)[torch.from_numpy(predicted_N)]
    ((share, right),) = metrics.confidence_curve(rows_NC, torch.from_numpy(unknown_N), [0.9], num_classes=num_classes)
    assert share == 1.0 and np.isnan(right)
