"""A published recipe by name: the settings that a method's stages declare for a preset and a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.interfaces import EVERY_SET, Stage
from trainables.settings import Plain

from .errors import did_you_mean
from .sections import Reading, for_pipelines

Recipes = Mapping[str, Mapping[str, Mapping[str, Plain]]]
"""Preset -> data set -> setting -> value."""


def read_preset(reading: Reading) -> dict[str, Plain]:
    """Read the settings of the page's preset for its data set; the page's own ``fixed`` overrides them.

    Rows with another pipeline have its recipe too: what the stages of all pipelines declare is put together.

    Returns:
        Full name -> value, without the settings that the page sweeps; empty if there is no preset, or if it has an
        error, which is noted in ``reading``.

    A part of ImageNet is known by its list of classes: ``classes: data/imagenet50.txt`` is the data set imagenet50.
    """
    page = reading.page
    if not page.preset:
        return {}
    views = for_pipelines(reading)
    declared = [(slot, _declared(stage)) for view in views for slot, stage in view.stages.items()]
    known = list(dict.fromkeys(name for _, recipes in declared for name in recipes))
    if page.preset not in known:
        way_out = did_you_mean(page.preset, known) if known else "Take the line out."
        reading.note(("preset",), f"preset {page.preset!r} does not exist for method {page.method!r}. {way_out}")
        return {}
    data_set, recipe = _data_set(page.dataset), dict[str, Plain]()
    for slot, recipes in declared:
        for name, value in _values(recipes.get(page.preset, {}), data_set).items():
            full = f"{slot}.{name}"
            if recipe.setdefault(full, value) != value and full not in page.fixed:
                sentence = (
                    f"the preset has two values for {full} in the rows' pipelines, {recipe[full]!r} and {value!r}."
                )
                reading.note(("preset",), f"{sentence} Write the one you mean under fixed.")
    if not recipe:
        served = dict.fromkeys(each for _, recipes in declared for each in recipes.get(page.preset, {}))
        sentence = (
            f"preset {page.preset!r} of method {page.method!r} says nothing about data set {data_set!r}, only about "
            f"{', '.join(served)}. Take the line out, or take one of these."
        )
        reading.note(("preset",), sentence)
    return {name: value for name, value in recipe.items() if name not in page.search and name not in page.grid}


def _values(recipe: Mapping[str, Mapping[str, Plain]], data_set: str) -> dict[str, Plain]:
    """Setting -> value of a stage's preset for a data set: what it says of every one, and of this one above it."""
    return {**recipe.get(EVERY_SET, {}), **recipe.get(data_set, {})}


def _declared(stage: Stage) -> Recipes:
    """Not every stage has recipes, so a stage may leave the name PRESETS out."""
    recipes: Recipes = getattr(stage, "PRESETS", {})
    return recipes


def _data_set(dataset: Mapping[str, Any]) -> str:
    classes = dataset.get("classes")
    return Path(classes).stem if isinstance(classes, str) and classes else str(dataset.get("name", "digits"))
