#!/bin/sh
# files.sh [ROW...] - what a small file costs a web server: httpd (examples/net) beside nginx, asked by
# wrk over 64 connections, in turns, ROUNDS (5) times FILES_SECONDS (3) for each row. The table has
# the medians of the rounds, and goes to build/files.tsv, too. Rows: `quiet`, nobody writes an access
# log; `log`, both do, into a file: nginx in its usual way, a write for each request. nginx has an
# open_file_cache, and httpd one of the same manners; nginx reads the file (sendfile off, its default),
# which costs it 30 % less for 1 KiB than sendfile does. `plain` is not of a file: three bytes that the
# configuration of nginx has, and server.c (WEB is another build of it).
#
#   cpu       us of the server's CPU time per request, all its processes and threads
#   requests  per second, wrk being on the same CPUs
#   ratio     the median of httpd's cpu to nginx's of the same round
#
# NGINX and WRK name the commands, HTTPD another build of httpd. PORT (7791) on 127.0.0.1 must be
# free. SIZE (1024) is the file's.
cd "$(dirname "$0")/../.." || exit 1
nginx=${NGINX:-nginx}
wrk=${WRK:-wrk}
port=${PORT:-7791}
rows=${*:-plain quiet log}
out=build/files
mkdir -p $out/www
for c in "$nginx" "$wrk"; do
    command -v "$c" >/dev/null 2>&1 && continue
    echo "files: no $c: nothing to compare with (apt-get install nginx-light wrk)"
    [ -z "$CI$STRICT" ]
    exit
done
head -c "${SIZE:-1024}" /dev/zero | tr '\0' x >$out/www/index.html
user=
[ "$(id -u)" != 0 ] || user="user root;"

config() { # ROW - nginx.conf
    log=off
    [ "$1" != log ] || log="$PWD/$out/nginx.log"
    page=
    [ "$1" != plain ] || page='location / { default_type text/plain; return 200 "ok\n"; }'
    cat >$out/nginx.conf <<END
daemon off;
$user
worker_processes 2;
pid $PWD/$out/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
    access_log $log;
    sendfile off;
    open_file_cache max=1000 inactive=20s;
    open_file_cache_valid 30s;
    keepalive_requests 1000000000;
    types { text/html html; }
    client_body_temp_path $PWD/$out; proxy_temp_path $PWD/$out; fastcgi_temp_path $PWD/$out;
    uwsgi_temp_path $PWD/$out; scgi_temp_path $PWD/$out;
    server {
        listen 127.0.0.1:$port reuseport;
        root $PWD/$out/www;
        $page
    }
}
END
}

ticks() { # PID - the CPU time of it and its children, in clock ticks
    for p in $1 $(cat "/proc/$1/task/$1/children"); do cat "/proc/$p/stat"; done |
        awk '{ sub(/^.*\) /, ""); n += $12 + $13 } END { print n }'
}

server=
trap '[ -z "$server" ] || kill $server' EXIT
trap 'exit 1' INT TERM
hertz=$(getconf CLK_TCK)

round() { # SERVER ROW - starts it, asks it, ends it
    config "$2"
    case $1-$2 in
    httpd-plain) "${WEB:-build/server}" $port & ;;
    httpd-quiet) "${HTTPD:-build/httpd}" -q 127.0.0.1:$port $out/www 2>$out/httpd.err & ;;
    httpd-log) "${HTTPD:-build/httpd}" 127.0.0.1:$port $out/www 2>$out/httpd.log & ;;
    nginx-*) "$nginx" -e stderr -p $out -c "$PWD/$out/nginx.conf" & ;;
    esac
    server=$!
    tries=0 # it does not listen at once
    until "$wrk" -t1 -c64 -d1 "http://127.0.0.1:$port/index.html" >$out/warm 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 50 ] || { echo "files: $1 does not answer: $(tail -n 1 $out/warm)" && exit 1; }
        sleep 0.1
    done
    before=$(ticks $server)
    "$wrk" -t1 -c64 -d"${FILES_SECONDS:-3}" "http://127.0.0.1:$port/index.html" >$out/one || exit 1
    after=$(ticks $server)
    if grep -q -E "Non-2xx|Socket errors" $out/one; then
        echo "files: $1 did not answer all of them:" && cat $out/one
        exit 1
    fi
    awk -v who="$1" -v row="$2" -v ticks=$((after - before)) -v hertz="$hertz" '
        / requests in / { n = $1 } /^Requests\/sec/ { rate = $2 }
        END { printf "%s %s %.3f %.0f\n", row, who, ticks / hertz * 1e6 / n, rate }' $out/one >>$out/raw
    kill $server
    wait $server 2>/dev/null
    server=
}

: >$out/raw
for row in $rows; do
    for i in $(seq "${ROUNDS:-5}"); do
        for who in httpd nginx; do round $who "$row"; done
    done
done
awk '
    { n[$1, $2]++; cpu[$1, $2, n[$1, $2]] = $3; rate[$1, $2, n[$1, $2]] = $4
      if (!($1 in seen)) { seen[$1] = 1; order[++rows] = $1 } }
    function median(v, m,    i, j, t) {
        for (i = 2; i <= m; i++) for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return v[int((m + 1) / 2)]
    }
    END {
        printf "%-8s %-6s %8s %10s %6s\n", "row", "server", "cpu", "requests", "ratio"
        print "row\tserver\tcpu\trequests\tratio" >"build/files.tsv"
        for (k = 1; k <= rows; k++) for (w = 1; w <= 2; w++) {
            who = w == 1 ? "httpd" : "nginx"; row = order[k]; m = n[row, who]
            for (i = 1; i <= m; i++) { a[i] = cpu[row, who, i]; b[i] = rate[row, who, i]; c[i] = cpu[row, who, i] / cpu[row, "nginx", i] }
            x = median(a, m); y = median(b, m); z = median(c, m)
            printf "%-8s %-6s %8.2f %10d %6.2f\n", row, who, x, y, z
            printf "%s\t%s\t%.2f\t%d\t%.2f\n", row, who, x, y, z >"build/files.tsv"
        }
    }' $out/raw
