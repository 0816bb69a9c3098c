# lib.sh - servers and clients for the scripts beside it: sh NAME.sh BUILD_DIRECTORY
dir=$1
work=$(mktemp -d)
trap 'kill $servers $clients 2>/dev/null; rm -rf "$work"' EXIT
servers= clients=

# until_ready COMMAND... - waits until it succeeds, ten seconds at most
until_ready() {
    tries=500
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "gave up waiting: $*"; exit 1; }
        sleep 0.02
    done
}

# server NAME ARGUMENT... - starts it; $address is where it listens (give it 127.0.0.1:0), $server its process
server() {
    program=$1
    shift
    : >"$work/server.err"
    "$dir/$program" "$@" </dev/null >"$work/server.out" 2>"$work/server.err" &
    server=$!
    servers="$servers $!"
    until_ready grep -q '^listening on ' "$work/server.err"
    address=$(sed -n "s/^listening on //p" "$work/server.err" | tr -d "\r")
}

# client NAME NUMBER - connects; NUMBER from 3 to 9 is another for each
client() {
    mkfifo "$work/$1.in"
    : >"$work/$1"
    "$dir/netcat" "$address" <"$work/$1.in" >"$work/$1" 3>&- 4>&- 5>&- 6>&- &
    clients="$clients $!"
    eval "pid_$1=$!"
    eval "exec $2>'$work/$1.in'"
}

# lines NAME NUMBER - true when it has heard that many; heard NAME TEXT - a line with TEXT in it
lines() { [ "$(wc -l <"$work/$1")" -ge "$2" ]; }
heard() { grep -qF "$2" "$work/$1"; }
