#!/bin/sh
# tail.sh [ROW...] - how long a web server's slowest requests take: csp.h (server.c), nginx and Go
# are asked by peers/openloop.c over 64 connections, at fixed times whatever they answer, on the same
# two CPUs in turns, ROUNDS (3) times TAIL_SECONDS (5) for each row. The table has the medians of the
# rounds, and goes to build/tail.tsv, too. A row is tail_RATE: so many requests per second; in
# tail_RATE_mix one in a hundred computes for 5 ms, and p50 to max are those of the others (nginx
# computes nothing, and has no such row).
#
#   p50 .. max   us from when a request was due to its answer
#   slow_p50     the same of those that compute
#   cpu          us of the server's CPU time per request; in a mix, 50 of them are the computing
#   switches     the server's voluntary context switches per request
#   late_p99     us by which the generator itself was late: part of every server's latencies
#   load         per cent of a core that the generator used
#   others       the same of all other processes: the row wants a quiet machine
#
# GO names the go command, NGINX nginx. OTHER=PROGRAM is another build of server.c, measured as
# "other" beside the first. PORT (7790) on 127.0.0.1 must be free. ARRIVALS=poisson: see openloop.c.
# Run it as root or with CAP_SYS_NICE: the generator then runs before the servers.
cd "$(dirname "$0")/../.." || exit 1
go=${GO:-go}
nginx=${NGINX:-nginx}
rows=${*:-tail_500 tail_2000 tail_10000 tail_30000 tail_500_mix tail_2000_mix tail_10000_mix}
out=build/tail
port=${PORT:-7790}
mkdir -p $out
load=examples/bench/peers/openloop.c
[ -n "$(find $out -path $out/openloop -newer $load)" ] || # building disturbs whoever measures
    ${CC:-cc} -O2 $load -o $out/openloop -pthread -lm || exit 1
servers=csp
[ -z "$OTHER" ] || servers="$servers other"
if command -v "$nginx" >/dev/null 2>&1; then
    servers="$servers nginx"
    cat >$out/nginx.conf <<END
daemon off;
worker_processes 2;
pid $PWD/$out/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path $PWD/$out; proxy_temp_path $PWD/$out; fastcgi_temp_path $PWD/$out;
    uwsgi_temp_path $PWD/$out; scgi_temp_path $PWD/$out;
    server {
        listen 127.0.0.1:$port reuseport;
        default_type text/plain;
        location / { return 200 "ok\n"; }
    }
}
END
else
    echo "no nginx command: left out (apt-get install nginx-light, or NGINX=/path/to/nginx)"
fi
if command -v "$go" >/dev/null 2>&1; then
    [ -n "$(find $out -path $out/go -newer examples/bench/peers/gobench/echo.go)" ] ||
        (cd examples/bench/peers/gobench && "$go" build -o "../../../../$out/go" .) || exit 1
    servers="$servers go"
else
    echo "no go command: left out (unpack a Go toolchain and say GO=/path/to/go make tail)"
fi
pin= # to the first two CPUs that we may use; the generator takes the last two
if command -v taskset >/dev/null 2>&1; then
    pin="taskset -c $(taskset -cp $$ | awk -F '[:,] *' '{
        for (i = 2; i <= NF && n < 2; i++) {
            split($i, r, "-"); if (r[2] == "") r[2] = r[1]
            for (c = r[1]; c <= r[2] && n < 2; c++) printf "%s%d", n++ ? "," : "", c } }')"
fi

server=
trap '[ -z "$server" ] || kill $server' EXIT
trap 'exit 1' INT TERM

round() { # SERVER ROW - starts it, asks it, ends it
    mix=0
    rate=${2#tail_}
    case $rate in *_mix) mix=1 rate=${rate%_mix} ;; esac
    case $1-$mix in
    nginx-1) return ;;
    csp-*) CSP_PROCS=2 $pin build/server $port & ;;
    other-*) CSP_PROCS=2 $pin "$OTHER" $port & ;;
    nginx-0) $pin "$nginx" -e stderr -p $out -c "$PWD/$out/nginx.conf" & ;;
    go-*) GOMAXPROCS=2 $pin $out/go http_server -addr 127.0.0.1:$port & ;;
    esac
    server=$!
    $out/openloop $port "$rate" "${TAIL_SECONDS:-5}" $mix $server >$out/one || exit 1
    sed "s/^/$1 $2 /" $out/one >>$out/raw
    kill $server
    wait $server 2>/dev/null
    server=
}

: >$out/raw
for row in $rows; do
    for i in $(seq "${ROUNDS:-3}"); do
        for who in $servers; do round $who "$row"; done
    done
done
awk '
    { key = $2 " " $1; if (!(key in seen)) { seen[key] = 1; order[++keys] = key }
      value[key, $3, ++count[key, $3]] = $4 }
    function median(key, what,    i, j, t, m) {
        m = count[key, what]
        if (!m) return ""
        for (i = 1; i <= m; i++) v[i] = value[key, what, i]
        for (i = 2; i <= m; i++) for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return v[int((m + 1) / 2)]
    }
    END {
        n = split("p50 p90 p99 p99.9 max slow_p50 cpu switches late_p99 load others", what, " ")
        printf "%-15s %-6s", "row", "server"
        printf "row\tserver" >"build/tail.tsv"
        for (i = 1; i <= n; i++) { printf " %8s", what[i]; printf "\t%s", what[i] >"build/tail.tsv" }
        for (k = 1; k <= keys; k++) {
            split(order[k], part, " ")
            printf "\n%-15s %-6s", part[1], part[2]
            printf "\n%s\t%s", part[1], part[2] >"build/tail.tsv"
            for (i = 1; i <= n; i++) { t = median(order[k], what[i]); printf " %8s", t; printf "\t%s", t >"build/tail.tsv" }
        }
        print ""
        print "" >"build/tail.tsv"
    }' $out/raw
