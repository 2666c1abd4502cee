"""The embedded broker itself: these tests start their own, whatever broker the others use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from spinney.core.errors import SetupError
from spinney.local.broker import Broker
from spinney.local.broker.ports import answers

SECONDS = 60
QUIET = {"log_level": 0}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("own")) as broker:
        yield broker


def make_topic(servers: str, name: str, **config: str) -> None:
    client = AdminClient({"bootstrap.servers": servers, **QUIET})
    for made in client.create_topics([NewTopic(name, 2, 1, config=config)], operation_timeout=SECONDS).values():
        made.result()


def produce(servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 16_000_000, **QUIET})
    refused = []
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=lambda error, _: error and refused.append(error))
    assert producer.flush(SECONDS) == 0
    assert refused == []


def consume(servers: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test", "enable.auto.commit": False, **QUIET})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return [message.value() for message in consumer.consume(count, timeout=SECONDS)]
    finally:
        consumer.close()


def eventually(what) -> bool:
    deadline = time.monotonic() + SECONDS
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_produced_is_consumed(own) -> None:
    make_topic(own.bootstrap_servers, "echo")
    produce(own.bootstrap_servers, "echo", [b"one", b"two"])
    assert consume(own.bootstrap_servers, "echo", 2) == [b"one", b"two"]


def test_a_message_of_15_megabytes_passes(own) -> None:
    make_topic(own.bootstrap_servers, "large")
    large = os.urandom(15_000_000)
    produce(own.bootstrap_servers, "large", [large])
    assert consume(own.bootstrap_servers, "large", 1) == [large]


def test_a_topic_does_not_come_to_be_by_itself(own) -> None:
    client = AdminClient({"bootstrap.servers": own.bootstrap_servers, **QUIET})
    asked = client.list_topics("never-made", timeout=SECONDS).topics["never-made"]
    assert asked.error.name() == "UNKNOWN_TOPIC_OR_PART"
    assert "never-made" not in client.list_topics(timeout=SECONDS).topics


def test_records_are_kept_for_ever(own) -> None:
    client = AdminClient({"bootstrap.servers": own.bootstrap_servers, **QUIET})
    (asked,) = client.describe_configs([ConfigResource(ResourceType.BROKER, "1")]).values()
    config = asked.result(SECONDS)
    assert config["log.retention.ms"].value == "-1"
    assert config["log.retention.bytes"].value == "-1"


def test_it_listens_on_the_loopback_interface_only(own) -> None:
    listening = {f"{port:04X}": port for port in own._ports}
    lines = [line for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    rows = [line.split() for line in lines]
    addresses = {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and row[1].rpartition(":")[2] in listening}
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert addresses


def test_it_has_a_process_group_of_its_own_so_that_ctrl_c_does_not_reach_it(own) -> None:
    assert os.getpgid(own._process.pid) != os.getpgid(0)


def test_starting_twice_is_starting_once(own) -> None:
    before = own._process.pid
    assert own.start() is own
    assert own._process.pid == before


def test_a_killed_broker_comes_back_at_the_same_port_with_its_records(own) -> None:
    servers = own.bootstrap_servers
    make_topic(servers, "kept")
    produce(servers, "kept", [b"before the crash"])
    own.kill()
    assert not own.running
    assert not answers(own.port)
    own.start()
    assert own.bootstrap_servers == servers
    produce(servers, "kept", [b"after it"])
    assert consume(servers, "kept", 2) == [b"before the crash", b"after it"]


def test_stopping_twice_is_harmless_and_what_is_stopped_is_served_again_by_another_object(tmp_path: Path) -> None:
    first = Broker(tmp_path)
    first.stop()
    with first:
        make_topic(first.bootstrap_servers, "kept")
        produce(first.bootstrap_servers, "kept", [b"record"])
        first.stop()
        first.stop()
        assert not first.running
    assert not answers(first.port)
    with Broker(tmp_path) as second:
        assert consume(second.bootstrap_servers, "kept", 1) == [b"record"]


def test_a_taken_port_is_reported_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=rf"port {port} on 127.0.0.1 is taken .* choose another port"):
            Broker(tmp_path, port).start()


def test_a_broker_that_dies_quotes_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=another\n")
    broker = Broker(tmp_path)
    with pytest.raises(SetupError, match=r"ended with \d+; its last lines: .*node.id.*broker.log"):
        broker.start()
    assert not broker.running


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SetupError, match="file/data: cannot be written"):
        Broker(tmp_path / "file" / "data").start()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from spinney.local.broker import Broker\n"
        f"broker = Broker(Path({str(tmp_path)!r})).start()\n"
        "print(broker.port, broker._process.pid, flush=True); time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        port, pid = map(int, parent.stdout.readline().split())
        assert answers(port)
        parent.send_signal(signal.SIGKILL)
    assert eventually(lambda: not answers(port))
    assert eventually(lambda: not alive(pid))


def test_the_shared_broker_answers(broker) -> None:
    assert AdminClient({"bootstrap.servers": broker, **QUIET}).list_topics(timeout=SECONDS).brokers
