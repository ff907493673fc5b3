"""A ledger on a real PostgreSQL server: storages apart, one owner for a study, and a server that dies in the middle."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from platform.ledger import process_lease
from platform.ledger.launches import StudyHeld, StudyLost
from platform.ledger.ledger import Ledger, place_of
from platform.ledger.postgres import VARIABLE, Server, server_of
from platform.ledger.rows import DONE, PENDING, Configuration
from platform.ledger.schema import LedgerBusy, LedgerError
from platform.ledger.storage import Storage, named
from platform.tracking import optuna_export
from typing import Any

import optuna
import pytest

from tests.servers import postgres
from tests.servers.postgres import DIALECT, HOST, QUOTED, USER
from trainables.runner.messages import EpochRecord, StageRecord

pytestmark = pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing())

ROOT = Path(__file__).resolve().parents[2]
MEANING = {"method": "spc"}
RESOLVED = {"method": "spc", "objective": {"metric": "spc/selection_loss", "mode": "min"}, "trials": 2}


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as made:
        made.execute("CREATE DATABASE ledgers")
        yield made


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


@pytest.fixture
def place(server: postgres.Server, storage: Storage) -> Server:
    return server_of(storage, server.uri("ledgers"))


def opened(ledger: Ledger, **named: Any) -> int:
    return ledger.open_launch("spc", MEANING, RESOLVED, lookahead=2, **named).id


def entered(ledger: Ledger, launch: int, *keys: str) -> None:
    ledger.add_trials(
        launch, [(key, {"kind": "trial", "seed": seed}) for seed, key in enumerate(keys)], configuration=0
    )


# Where it is


def test_without_the_variable_the_ledger_is_in_the_storage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert place_of(storage) == storage.folder / "ledger.db"


def test_a_storage_has_one_schema_from_wherever_it_is_seen(
    server: postgres.Server, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, server.uri("ledgers"))
    other_name = tmp_path.with_name(f"{tmp_path.name}-mounted-elsewhere")
    other_name.symlink_to(tmp_path)
    assert place_of(Storage(other_name)) == place_of(storage)
    assert place_of(Storage(tmp_path / "..")) != place_of(storage)


def test_drivers_that_begin_at_once_agree_on_the_schema(server: postgres.Server, storage: Storage) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: server_of(storage, server.uri("ledgers")).schema, range(64)))
    assert len(found) == 1
    assert [path.name for path in storage.folder.iterdir()] == ["storage.id"]


def test_a_bucket_has_the_same_schema_on_every_host(
    server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for host in ("a", "b"):
        monkeypatch.setenv("CLUSTERSWEEP_LOCAL", str(tmp_path / host))
        found.append(server_of(named("s3://bucket/runs"), server.uri("ledgers")).schema)
    assert found[0] == found[1]
    assert server_of(named("s3://bucket/others"), server.uri("ledgers")).schema != found[0]


def test_nothing_is_made_by_whoever_only_reads(
    server: postgres.Server, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, server.uri("ledgers"))
    with pytest.raises(LookupError, match="there is no storage.id. Run a study there first"):
        place_of(storage, new=False)
    assert list(storage.folder.iterdir()) == []


def test_a_spoiled_identity_is_refused(server: postgres.Server, storage: Storage) -> None:
    (storage.folder / "storage.id").write_text('x"; DROP SCHEMA public; --')
    with pytest.raises(ValueError, match="storage.id is not what was written"):
        server_of(storage, server.uri("ledgers"))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mysql://me:sesame@host/db", r"CLUSTERSWEEP_DATABASE: mysql://me:\*\*\*@host/db is no PostgreSQL database"),
        ("runs/ledger.db", "CLUSTERSWEEP_DATABASE: .*Write postgresql://user:password@host/database"),
    ],
)
def test_what_is_no_database_is_refused_in_words(storage: Storage, uri: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        server_of(storage, uri)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["password", "port", "database"])
def test_a_server_that_cannot_be_used_is_named_at_once_without_the_password(
    server: postgres.Server, storage: Storage, wrong: str
) -> None:
    uris = {
        "password": server.uri("ledgers", QUOTED + "8"),
        "port": f"{DIALECT}://{USER}:{QUOTED}@{HOST}:9/ledgers",
        "database": server.uri("missing"),
    }
    began = time.monotonic()
    with pytest.raises(LedgerBusy, match="cannot be used") as caught:
        Ledger(server_of(storage, uris[wrong]))
    assert time.monotonic() - began < 20  # it waits for a minute for one that was there before
    assert "sesame" not in str(caught.value)


def test_studies_of_one_name_in_two_storages_never_meet(server: postgres.Server, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (Ledger(server_of(Storage(tmp_path / name), server.uri("ledgers"))) for name in ("one", "two"))
    entered(one, opened(one), "a")
    assert two.launches() == []
    assert two.trials(opened(two)) == []


# Who has a study

HOLDS = """
import sys, time
from platform.ledger.ledger import Ledger
from platform.ledger.postgres import Server
Ledger(Server(*sys.argv[1:3])).open_launch("spc", {"method": "spc"}, {}, lookahead=1)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(place: Server) -> Iterator["subprocess.Popen[str]"]:
    """A living driver in another process that has the study."""
    command = [sys.executable, "-c", HOLDS, place.uri, place.schema]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_study_has_one_driver_and_is_free_when_it_dies(place: Server, holder: "subprocess.Popen[str]") -> None:
    ledger = Ledger(place)
    with pytest.raises(StudyHeld, match=f"is being run by process {holder.pid}"):
        opened(ledger)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert opened(ledger) > 0


def test_a_driver_whose_host_was_silent_writes_nothing_over_its_successor(
    place: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, host = Ledger(place), Ledger(place), "far-away"
    monkeypatch.setattr(process_lease.socket, "gethostname", lambda: host)
    monkeypatch.setattr(process_lease, "LEASE_S", 0.4)
    launch = opened(first)
    entered(first, launch, "a")
    time.sleep(0.5)
    host = "here"
    assert opened(second) == launch
    host = "far-away"
    with pytest.raises(StudyLost, match="was taken over by process"):
        first.finish(launch, "a", {"acc": 1.0}, [], 1.0)
    with pytest.raises(StudyLost):
        first.heartbeat(launch)
    assert [trial.state for trial in second.trials(launch)] == [PENDING]


def test_of_drivers_that_want_one_study_at_once_one_gets_it(place: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger(place).close()
    barrier, hosts = threading.Barrier(6), threading.local()
    monkeypatch.setattr(process_lease.socket, "gethostname", lambda: getattr(hosts, "name", "here"))

    def take(number: int) -> int:
        hosts.name = f"host{number}"
        ledger = Ledger(place)
        barrier.wait()
        try:
            return opened(ledger)
        except StudyHeld:
            return 0
        finally:
            ledger.close()

    with ThreadPoolExecutor(6) as pool:
        found = sorted(pool.map(take, range(6)))
    assert found[:-1] == [0] * 5
    assert found[-1] > 0
    assert [launch.number for launch in Ledger(place).launches()] == [1]


# What a server does to it


def test_eight_writers_lose_nothing(place: Server) -> None:
    launch = opened(Ledger(place))
    keys = [[f"{writer}-{number}" for number in range(25)] for writer in range(8)]

    def write(mine: list[str]) -> None:
        ledger = Ledger(place)
        for key in mine:
            entered(ledger, launch, key)
            ledger.start(launch, key)
            ledger.finish(launch, key, {"acc": 0.5}, [], 1.0)
        ledger.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, keys))
    found = Ledger(place).trials(launch)
    assert sorted(trial.key for trial in found) == sorted(key for mine in keys for key in mine)
    assert {(trial.state, trial.attempts) for trial in found} == {(DONE, 1)}


def test_a_server_killed_again_and_again_costs_time_alone(server: postgres.Server, place: Server) -> None:
    ledger = Ledger(place)
    launch = opened(ledger)
    stop = threading.Event()

    def trouble() -> None:
        while not stop.wait(0.4):
            server.kill()
            time.sleep(0.2)
            server.start()

    nemesis = threading.Thread(target=trouble)
    nemesis.start()
    try:
        for number in range(150):
            key = f"t{number:03}"
            ledger.add_configuration(launch, Configuration(number, "", {"spc.optimizer.lr": number / 1000}))
            ledger.add_trials(launch, [(key, {"kind": "trial", "seed": 0})], configuration=number)
            ledger.start(launch, key)
            ledger.add_epochs(launch, key, [EpochRecord("spc", 1, 1, {"loss": number})])
            ledger.finish(launch, key, {"acc": number / 1000}, [], 1.0)
            time.sleep(0.02)
    finally:
        stop.set()
        nemesis.join()
    found = ledger.trials(launch)
    assert [(trial.key, trial.state, trial.metrics["acc"]) for trial in found] == [
        (f"t{number:03}", DONE, number / 1000) for number in range(150)
    ]
    assert [configuration.number for configuration in ledger.configurations(launch)] == list(range(150))
    assert [row.metrics["loss"] for row in ledger.epochs(launch)] == list(range(150))
    assert [trial.sequence for trial in found] == list(range(1, 151))


def test_a_server_that_stays_away_is_an_error_that_says_so(server: postgres.Server, place: Server) -> None:
    ledger = Ledger(place, patience_s=1.0)
    launch = opened(ledger)
    server.kill()
    try:
        with pytest.raises(LedgerBusy, match="cannot be used .* what was finished is kept") as caught:
            ledger.heartbeat(launch)
    finally:
        server.start()
    assert "sesame" not in str(caught.value)
    ledger.heartbeat(launch)


def test_what_the_server_forbids_is_an_error_of_the_ledger(server: postgres.Server, storage: Storage) -> None:
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'guest-word'")
    uri = f"postgresql://guest:guest-word@{HOST}:{server.port}/ledgers"
    with pytest.raises(LedgerError, match="refuses: permission denied") as caught:
        Ledger(server_of(storage, uri))
    assert "guest-word" not in str(caught.value)


def test_tables_are_made_by_one_and_written_by_others(server: postgres.Server, place: Server) -> None:
    Ledger(place).close()
    server.execute("CREATE ROLE member LOGIN PASSWORD 'member-word'")
    owner_of = server.connection("ledgers")
    owner_of.autocommit = True
    for right in ("USAGE ON SCHEMA", "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA"):
        owner_of.cursor().execute(f"GRANT {right} {place.schema} TO member")
    owner_of.close()
    ledger = Ledger(Server(f"postgresql://member:member-word@{HOST}:{server.port}/ledgers", place.schema))
    launch = opened(ledger)
    entered(ledger, launch, "a")
    assert [trial.key for trial in ledger.trials(launch)] == ["a"]


def test_an_error_s_text_may_hold_what_postgresql_s_text_may_not(place: Server) -> None:
    ledger = Ledger(place)
    launch = opened(ledger)
    entered(ledger, launch, "a")
    ledger.fail(launch, "a", "OSError: \0 100 % of 'x'; ? %s")
    assert ledger.trials(launch)[0].error == "OSError:  100 % of 'x'; ? %s"


# Beside it


def test_optuna_s_copies_lie_beside_it_also_where_several_drivers_are_the_first(place: Server, tmp_path: Path) -> None:
    resolved = RESOLVED | {"seeds": [0], "search": {"spc.optimizer.lr": {"uniform": [0.0, 1.0]}}}
    stages = [StageRecord("spc", "spc", "a1", cached=False, seconds=1.0)]

    def drive(study: str) -> None:
        ledger = Ledger(place)
        launch = ledger.open_launch(study, MEANING, resolved, lookahead=2).id
        for number in range(2):
            ledger.add_configuration(launch, Configuration(number, "", {"spc.optimizer.lr": number / 2}))
            ledger.add_trials(launch, [(f"t{number}", {"kind": "trial", "seed": 0})], configuration=number)
            ledger.finish(launch, f"t{number}", {"spc/selection_loss": 3.0 - number}, stages, 1.0)
        for _ in range(2):
            optuna_export.export(ledger, launch, tmp_path / "optuna.db")

    names = [f"study{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(drive, names))
    for name in names:
        study = optuna.load_study(study_name=name, storage=place.optuna)
        assert (len(study.trials), study.best_value, study.best_params) == (2, 2.0, {"spc.optimizer.lr": 0.5})
    assert not (tmp_path / "optuna.db").exists()
