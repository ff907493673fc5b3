"""Super-classes: the 20 of CIFAR-100, each with its five classes (Krizhevsky 2009, section 3), and those of a table.

CIFAR-100's classes and super-classes are numbered by their place in the sorted list of names, as in its files.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from .loaded import DataError, shortened
from .own_images import tables

GROUPS: Mapping[str, str] = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}

GROUP_NAMES: tuple[str, ...] = tuple(sorted(GROUPS))
CLASS_NAMES: tuple[str, ...] = tuple(sorted(name for names in GROUPS.values() for name in names.split()))

_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names.split()}
GROUP_OF_CLASS: tuple[int, ...] = tuple(GROUP_NAMES.index(_GROUP_OF[name]) for name in CLASS_NAMES)
"""The super-class of each class."""


def of_table(table: Path, class_names: Sequence[str], *, is_cut_down: bool) -> tuple[int, ...]:
    """The super-class of each class, as a table says.

    Args:
        table: CSV, or tab-separated with the ending .tsv, with the columns class and superclass. An empty cell under
            superclass puts the class into none. Spaces around a cell do not count.
        class_names: of the data set; each must stand in the table once.
        is_cut_down: the data set has some of its classes only, so that the table may name others too.

    Returns:
        A number for each class, -1 for none; super-classes are numbered as they first come in the table.

    Raises:
        DataError: the table is missing or no such table, or the data set has no classes; or the table lacks a class,
            names one twice, or one that is not there. All of these are in one text.
    """
    if not class_names:
        raise DataError(
            f"superclasses: {table} puts classes into super-classes, but no image of this data set has a label. Take it"
            " out."
        )
    if not table.is_file():
        raise DataError(
            f"superclasses: {table.resolve()} is not a file. It is a CSV table with the columns class and superclass."
        )
    cells = tables.csv_rows(table, "\t" if table.suffix == ".tsv" else ",")
    columns = list(cells[0][1]) if cells else []
    if not {"class", "superclass"} <= set(columns):
        raise DataError(
            f"{table} must have the columns class and superclass in its first line, but has"
            f" {', '.join(map(str, columns)) or 'none'}. Tabs separate them in a .tsv file, commas in any other."
        )
    group_of: dict[str, str] = {}
    wrong = []
    for line, row in cells[1:]:
        name, group = (str(row[column] or "").strip() for column in ("class", "superclass"))
        if name in group_of:
            wrong.append(f"line {line} names {name!r} a second time. Name each class once.")
        elif not is_cut_down and name not in class_names:
            close = get_close_matches(name, class_names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "Take the line out."
            wrong.append(f"line {line} names {name!r}, which is no class of this data set. {hint}")
        group_of[name] = group
    wrong += [
        f"the class {name!r} is missing. Add a line; an empty superclass leaves it out of the figure."
        for name in class_names
        if name not in group_of
    ]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(filter(None, group_of.values())))}
    if not wrong and len({group_of[name] for name in class_names} - {""}) < 2:
        wrong.append("the classes of this data set must be in at least two super-classes. Name another one.")
    if wrong:
        raise DataError(shortened([f"{table}: {sentence}" for sentence in wrong]))
    return tuple(numbers.get(group_of[name], -1) for name in class_names)
