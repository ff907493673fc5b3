"""Which tracking URIs can never work, and are refused before anything is started."""

import importlib.util
from platform.ledger.databases import check_connection, check_driver, is_database

import pytest


@pytest.mark.parametrize("uri", ["", "http://host:5000", "https://host", "databricks", "sqlite:///runs/mlflow.db"])
def test_what_needs_no_driver_passes(uri: str) -> None:
    check_driver(uri)
    check_connection(uri)


@pytest.mark.parametrize("uri", ["postgresql://h/x", "postgresql+psycopg2://h/x", "mysql://h/x", "sqlite:///x"])
def test_databases_are_known_by_their_scheme(uri: str) -> None:
    assert is_database(uri)


@pytest.mark.skipif(importlib.util.find_spec("pg8000") is not None, reason="pg8000 is installed")
def test_a_driver_that_is_not_installed_is_named_with_the_way_out_and_without_the_password() -> None:
    with pytest.raises(ValueError) as refused:
        check_driver("postgresql+pg8000://me:sesame@host/x")
    assert str(refused.value) == (
        "tracking.uri: postgresql+pg8000://me:***@host/x needs the Python module pg8000, which is not installed. "
        "Install it, or name another one in the URI, as in postgresql+psycopg2://..."
    )


@pytest.mark.parametrize(
    "uri", ["postgresql+nothing://me:sesame@host/x", "postgresql:/x", "postgresql://me:sesame@host:port/x"]
)
def test_a_database_that_there_is_not_is_refused_without_the_password(uri: str) -> None:
    with pytest.raises(ValueError, match="is no URI of a database") as refused:
        check_driver(uri)
    assert "sesame" not in str(refused.value)
