#!/usr/bin/env bash
# Runs a real Apache Kafka broker (KRaft, one node, on loopback unless told otherwise) for tests, demo and benchmarks.
#
#   run.sh fetch            download the jars, once (needs mvn and java 17)
#   run.sh start DIR PORT   start a broker that keeps its data in DIR; prints "host:port" when it answers
#   run.sh stop DIR         stop it, and wait until it is gone
#   run.sh kill DIR         stop it with SIGKILL
#
# KAFKA_HOST is the address it listens on (127.0.0.1), KAFKA_VERSION chooses the release (4.1.2), KAFKA_HEAP the Java heap
# (256m), KAFKA_JARS where the jars are kept. PORT + 1 is used too, by the controller. Exit code 3: what is needed is not
# installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-4.1.2}
host=${KAFKA_HOST:-127.0.0.1}
jars=${KAFKA_JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal/kafka-$version}

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

need() {
  command -v "$1" > /dev/null && return
  echo "$1 is not installed: apt-get install $2" >&2
  exit 3
}

fetch() {
  need java openjdk-17-jre-headless
  [[ -e $jars/complete ]] && return
  need mvn maven
  mkdir -p "$jars"
  (
    flock 9
    [[ -e $jars/complete ]] && exit 0
    mvn --quiet --batch-mode --no-transfer-progress --file "$here/pom.xml" -Dkafka.version="$version" \
      dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars" >&2
    touch "$jars/complete"
  ) 9> "$jars.lock"
}

run_java() {
  java -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$jars/*" "$@"
}

alive() {
  [[ -e $1/pid ]] && kill -0 "$(< "$1/pid")" 2> /dev/null
}

start() {
  local dir=$1 port=$2
  fetch
  mkdir -p "$dir"
  sed -e "s|@HOST@|$host|g; s|@PORT@|$port|g; s|@CONTROLLER_PORT@|$((port + 1))|g; s|@DATA@|$dir/data|g" \
    "$here/server.properties" > "$dir/server.properties"
  if [[ ! -e $dir/data/meta.properties ]]; then
    run_java kafka.tools.StorageTool format --cluster-id c2hvYWwtdGVzdC1rYWZrYQ --config "$dir/server.properties" \
      > "$dir/format.log" 2>&1
  fi
  # A serial collector keeps a small broker small.
  setsid nohup java -Xms64m "-Xmx${KAFKA_HEAP:-256m}" -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$jars/*" kafka.Kafka "$dir/server.properties" > "$dir/broker.log" 2>&1 < /dev/null &
  echo $! > "$dir/pid"
  for ((tries = 0; tries < 1200; ++tries)); do
    if ! alive "$dir"; then
      echo "the broker ended; the end of $dir/broker.log:" >&2
      tail -n 5 "$dir/broker.log" >&2
      exit 1
    fi
    if (exec 3<> "/dev/tcp/$host/$port") 2> /dev/null; then
      echo "$host:$port"
      return
    fi
    sleep 0.1
  done
  echo "the broker did not answer within 120 s; see $dir/broker.log" >&2
  exit 1
}

end() {
  local signal=$1 dir=$2
  if alive "$dir"; then
    kill "-$signal" "$(< "$dir/pid")"
    while alive "$dir"; do sleep 0.1; done
  fi
  rm -f "$dir/pid"
}

case ${1:-} in
  fetch) fetch && echo "$jars" ;;
  start) [[ $# -eq 3 ]] || usage; start "$2" "$3" ;;
  stop) [[ $# -eq 2 ]] || usage; end TERM "$2" ;;
  kill) [[ $# -eq 2 ]] || usage; end KILL "$2" ;;
  *) usage ;;
esac
