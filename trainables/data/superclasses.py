"""The 20 super-classes of CIFAR-100, each with its five classes (Krizhevsky 2009, section 3).

Classes and super-classes are numbered by their place in the sorted list of names, as in the published files.
"""

from collections.abc import Mapping

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
