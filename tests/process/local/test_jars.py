from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from spinney.core.errors import SetupError
from spinney.local.jars import Jar, cache_folder, ensure, locked, parse_lock
from spinney.local.maven_repository import mirror


def jar(artifact: str, content: bytes) -> Jar:
    return Jar("spark", "org.acme", artifact, "1.0", hashlib.sha256(content).hexdigest())


CONTENT = {"one": b"first jar", "two": b"second jar", "three": b"third jar"}
JARS = tuple(jar(artifact, content) for artifact, content in CONTENT.items())


class Repository:
    """A Maven repository on 127.0.0.1 that remembers what it was asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        asked = self.asked

        class Answer(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path.rsplit("/", 1)[1])
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Answer, directory=str(root)))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, jar: Jar, content: bytes) -> None:
        file = self.root / jar.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    made = Repository(tmp_path / "repository")
    for each in JARS:
        made.put(each, CONTENT[each.artifact])
    yield made
    made.close()


def test_the_shipped_lock_names_the_jars_of_spark_and_of_the_broker() -> None:
    spark = {jar.coordinate for jar in locked("spark")}
    broker = {jar.coordinate for jar in locked("broker")}
    assert "io.delta:delta-spark_4.1_2.13:4.4.0" in spark
    assert "org.apache.spark:spark-sql-kafka-0-10_2.13:4.1.3" in spark
    assert "org.apache.kafka:kafka_2.13:4.1.1" in broker
    assert len(locked()) == len(spark) + len(broker)


def test_a_line_of_the_lock_says_use_coordinate_and_digest() -> None:
    text = f"# why\n\nbroker org.acme:one:1.0 {'0' * 64}\n"
    assert parse_lock(text) == (Jar("broker", "org.acme", "one", "1.0", "0" * 64),)


@pytest.mark.parametrize("line", ["spark org.acme:one:1.0", "spark org.acme:one " + "0" * 64, "spark a:b:1 abc", "x"])
def test_a_line_that_is_none_is_named_with_its_number(line: str) -> None:
    with pytest.raises(SetupError, match=r"jars.lock:2: expected 'use group:artifact:version sha256'; got "):
        parse_lock(f"# first\n{line}\n")


def test_two_jars_of_one_file_name_are_refused() -> None:
    line = "spark {}:one:1.0 " + "0" * 64
    with pytest.raises(SetupError, match=r"jars.lock:2: one-1.0.jar is there twice"):
        parse_lock(line.format("org.acme") + "\n" + line.format("org.other"))


def test_a_jar_lies_where_maven_puts_it() -> None:
    assert JARS[0].path == "org/acme/one/1.0/one-1.0.jar"


def test_the_cache_is_the_users_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    assert cache_folder({}).name == "spinney"
    assert cache_folder({"SPINNEY_CACHE": str(tmp_path)}) == tmp_path


def test_jars_are_fetched_once_and_reported_one_by_one(repository: Repository, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    files = ensure(JARS, tmp_path / "jars", mirror(repository.url), lambda *step: seen.append(step))
    assert [file.read_bytes() for file in files] == list(CONTENT.values())
    assert seen == [(1, 3, "one-1.0.jar"), (2, 3, "two-1.0.jar"), (3, 3, "three-1.0.jar")]


def test_a_second_run_asks_nobody(repository: Repository, tmp_path: Path) -> None:
    first = ensure(JARS, tmp_path / "jars", mirror(repository.url))
    repository.asked.clear()
    assert ensure(JARS, tmp_path / "jars", mirror(repository.url)) == first
    assert repository.asked == []


def test_only_missing_and_broken_jars_are_fetched_again(repository: Repository, tmp_path: Path) -> None:
    one, two, _ = ensure(JARS, tmp_path / "jars", mirror(repository.url))
    one.unlink()
    two.write_bytes(b"cut sho")
    repository.asked.clear()
    ensure(JARS, tmp_path / "jars", mirror(repository.url))
    assert repository.asked == ["one-1.0.jar", "two-1.0.jar"]
    assert two.read_bytes() == CONTENT["two"]


def test_an_interrupted_fetch_goes_on_where_it_stopped(repository: Repository, tmp_path: Path) -> None:
    class PulledPlugError(Exception):
        pass

    def stop_at_two(done: int, wanted: int, name: str) -> None:
        if done == 2:
            raise PulledPlugError

    with pytest.raises(PulledPlugError):
        ensure(JARS, tmp_path / "jars", mirror(repository.url), stop_at_two)
    repository.asked.clear()
    ensure(JARS, tmp_path / "jars", mirror(repository.url))
    assert repository.asked == ["three-1.0.jar"]


def test_a_wrong_digest_is_reported_and_the_file_not_kept(repository: Repository, tmp_path: Path) -> None:
    repository.put(JARS[1], b"something else")
    got = hashlib.sha256(b"something else").hexdigest()
    expected = f"two-1.0.jar: .* expected sha256 {JARS[1].sha256}; got {got}"
    with pytest.raises(SetupError, match=expected):
        ensure(JARS, tmp_path / "jars", mirror(repository.url))
    assert sorted(file.name for file in (tmp_path / "jars").glob("*.jar")) == ["one-1.0.jar"]


def test_a_missing_coordinate_is_named_with_its_repository(repository: Repository, tmp_path: Path) -> None:
    absent = jar("absent", b"")
    expected = rf"org.acme:absent:1.0: not in {repository.url}.*SPINNEY_MAVEN_REPOSITORY"
    with pytest.raises(SetupError, match=expected):
        ensure([absent], tmp_path / "jars", mirror(repository.url))


def test_no_network_says_what_to_do_and_shows_no_password(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        ensure(JARS, tmp_path / "jars", mirror("http://me:secret@127.0.0.1:9/maven"))
    text = str(caught.value)
    assert text.startswith("one-1.0.jar and 2 more: could not be loaded: http://127.0.0.1:9/maven does not answer")
    assert "SPINNEY_MAVEN_REPOSITORY" in text
    assert "secret" not in text


def test_a_folder_can_be_the_repository(repository: Repository, tmp_path: Path) -> None:
    files = ensure(JARS, tmp_path / "jars", mirror(repository.root.as_uri()))
    assert [file.read_bytes() for file in files] == list(CONTENT.values())
    assert repository.asked == []


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(SetupError, match=r"SPINNEY_MAVEN_REPOSITORY: expected https://.*; got 'ftp://host/maven'"):
        mirror("ftp://host/maven")


def test_a_full_disk_says_how_much_is_needed_and_where(tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(SetupError, match=r"the disk is full\. Free 200 MB there, or set SPINNEY_CACHE"):
        ensure(JARS, tmp_path / "jars", full)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SetupError, match=r"file/jars: cannot be written \(Not a directory\).*SPINNEY_CACHE"):
        ensure(JARS, tmp_path / "file" / "jars", mirror("http://127.0.0.1:9"))
