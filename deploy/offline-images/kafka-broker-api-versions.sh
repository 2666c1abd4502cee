#!/bin/bash
# In place of Kafka's tool, which stands in a jar that the embedded broker does not need: whether the port is open.
#   kafka-broker-api-versions.sh --bootstrap-server HOST:PORT
set -euo pipefail

[ "${1:-}" = --bootstrap-server ] || {
    echo "expected --bootstrap-server HOST:PORT, got $*" >&2
    exit 2
}
exec 3<>"/dev/tcp/${2%:*}/${2##*:}"
