#!/bin/sh
# Stands in for `docker`: notes how it is called, and runs the machine's own redis-server as the container.
set -e
cd "$FAKE_DOCKER"
echo "$*" >>calls

serve() {
    # Streams elsewhere, or whoever reads them would wait for the server.
    redis-server --port "$(cat port)" --bind 127.0.0.1 --dir "$PWD" --appendonly yes --save '' >log 2>&1 &
    echo $! >pid
}
end() {
    [ -f pid ] || return 0
    pid=$(cat pid)
    rm pid
    kill -s KILL "$pid"
    while grep -qs '^State:.[^Z]' "/proc/$pid/status"; do sleep 0.01; done
}

case $1 in
info) echo 28.0.0 ;;
run)
    while [ "$1" != --publish ]; do shift; done
    echo "$2" | cut -d : -f 2 >port
    serve
    ;;
start) serve ;;
inspect) cat pid 2>/dev/null || echo 0 ;;
kill | stop | rm) end ;;
pause) kill -s STOP "$(cat pid)" ;;
unpause) kill -s CONT "$(cat pid)" ;;
wait) ;;
*) exit 1 ;;
esac
