"""Where MLflow keeps the runs: from the page or the environment, judged alike, and shown nowhere."""

from platform.study import errors
from platform.study.errors import redacted
from platform.study.file_schema import Tracking

import pytest

BAD = ["file:///elsewhere/x", "./mlruns", "databricks", "ftp://host/x"]
GOOD = ["sqlite:///x/mlflow.db", "postgresql+psycopg2://host/x", "http://host:5000", "https://host/path"]


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_hidden", set())


@pytest.mark.parametrize("uri", BAD)
def test_an_address_from_the_environment_is_judged_like_one_from_the_page(uri: str) -> None:
    rule = "must begin with one of sqlite:, postgresql:, mysql:, mssql:, http:, https:, but is"
    with pytest.raises(ValueError, match=f"MLFLOW_TRACKING_URI {rule} .*write sqlite:///path/mlflow.db"):
        Tracking().address({"MLFLOW_TRACKING_URI": uri})
    with pytest.raises(ValueError, match=f"tracking.uri {rule} .*ENV:PLACE"):
        Tracking(uri="${ENV:PLACE}").address({"PLACE": uri})
    with pytest.raises(ValueError, match=rule):
        Tracking(uri=uri)


@pytest.mark.parametrize("uri", GOOD)
def test_other_addresses_are_taken_and_the_page_s_comes_first(uri: str) -> None:
    assert Tracking().address({"MLFLOW_TRACKING_URI": uri}) == uri
    assert Tracking(uri="http://page:1").address({"MLFLOW_TRACKING_URI": uri}) == "http://page:1"
    assert Tracking().address({}) == ""


FORMS = ["https://host.name/{}/x", "https://host.name/x?key={}", "https://host.name/x#{}", "https://{}@host.name/x"]
FORMS += ["https://user:{}@host.name/x", "https://user:a/{}@host.name/x"]


@pytest.mark.parametrize("form", FORMS)
def test_no_part_of_an_address_from_the_environment_is_shown_but_its_host(form: str) -> None:
    secret = "s3cretk3y-0123"
    uri = Tracking(uri="${ENV:PLACE}").address({"PLACE": form.format(secret)})
    assert secret in uri
    for text in (uri, f"HTTPSConnectionPool(host='host.name', port=443): url: /{secret}/api", f"token is {secret}"):
        assert secret not in redacted(text)
    assert redacted("no answer from host.name") == "no answer from host.name"


def test_words_of_a_database_s_address_stay_words() -> None:
    secret = "s3cretk3y-0123"
    uri = f"postgresql+psycopg2://sweeper:{secret}@127.0.0.1:5432/tracking?sslkey={secret}"
    assert Tracking(uri="${ENV:PLACE}").address({"PLACE": uri}) == uri
    shown = redacted(f"tracking.uri is {uri}")
    assert shown.startswith("tracking.uri is postgresql+psycopg2://sweeper:***@127.0.0.1:5432/tracking")
    assert secret not in shown


def test_a_password_alone_is_hidden_whole() -> None:
    Tracking(uri="postgresql://user:${ENV:KEY}@host/x").address({"KEY": "long s3cret/words"})
    assert redacted("refused: s3cret/words") == "refused: s3cret/words"
    assert redacted("refused: long s3cret/words") == "refused: ***"
