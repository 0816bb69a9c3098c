#!/bin/sh
# compare.sh [ROW...] - csp.h beside Go, Boost.Fiber and plain threads on the same cores: in turns,
# ROUNDS (3) times, at one and at two processors. GO names the go command, PREFIX a command to run
# each program with (PREFIX='nice -n -15' on a machine that does other things; with chrt -f the row
# mutex_fair never ends on one CPU: who spins there is not interrupted). The table also goes to
# build/bench.tsv, which chart.sh draws.
cd "$(dirname "$0")/../.." || exit 1
go=${GO:-go}
rounds=${ROUNDS:-3}
out=build/compare
rows=${*:-ctx_switch chan_pingpong chan_buffered chan_mpmc select4 spawn_join skynet sieve sleepers mem_1m mem_1m_small mutex_free mutex_8 mutex_fair rw_8 once_free wg_free wg_park sem_free sem_8 cond_pingpong ctx_cancel ctx_tree map_mixed map_hot pool_get_put group_go sum quicksort pipeline pipeline0 wake_timer wake_foreign wake_pipe echo echo_idle blocking hogs hogs_asleep}
peers=examples/bench/peers
mkdir -p $out
rm -f $out/go $out/boost $out/pthreads
if command -v "$go" >/dev/null 2>&1; then
    (cd $peers/gobench && "$go" build -o "../../../../$out/go" .) || exit 1
else
    echo "no go command: left out (unpack a Go toolchain and say GO=/path/to/go make bench-peers)"
fi
${CC:-cc} -O2 $peers/pthreads.c -o $out/pthreads -pthread || exit 1
${CC:-cc} -O2 $peers/echo_epoll.c -o $out/echo_epoll -pthread || exit 1 # a client and a server
if echo '#include <boost/fiber/all.hpp>' | ${CXX:-c++} -x c++ -fsyntax-only - 2>/dev/null; then
    ${CXX:-c++} -O2 $peers/boost_fiber.cc -o $out/boost -lboost_fiber -lboost_context -pthread
else
    echo "no Boost.Fiber: left out (apt-get install libboost-fiber-dev)"
fi

round() { # ROW PROCS - one run of everybody who has the row
    pin=
    [ "$2" = 1 ] && command -v taskset >/dev/null && pin='taskset -c 0'
    case $1 in sum | quicksort | pipeline | pipeline0) program=cores ;; wake_*) program=latency ;; *) program=bench ;; esac
    CSP_PROCS=$2 $PREFIX $pin build/$program "$1" | sed "s/^/csp $2 /"
    for peer in go boost pthreads; do
        case $peer-$1 in
        go-mem_1m_small | go-wake_*) continue ;;
        boost-ctx_switch | boost-chan_* | boost-spawn_join | boost-mutex_8) ;;
        pthreads-chan_* | pthreads-spawn_join | pthreads-mutex_8) ;;
        go-*) ;;
        *) continue ;;
        esac
        [ ! -x $out/$peer ] || GOMAXPROCS=$2 CSP_PROCS=$2 $PREFIX $pin $out/$peer "$1" | sed "s/^/$peer $2 /"
    done
    [ "$1-$2" != echo-2 ] || $PREFIX $out/echo_epoll | sed 's/^/pthreads 2 /'
}

: >$out/raw
for row in $rows; do
    case $row in sum | quicksort | pipeline | pipeline0 | wake_*) all=2 ;; *) all='1 2' ;; esac
    for procs in $all; do
        for i in $(seq "$rounds"); do round "$row" "$procs" >>$out/raw; done
    done
done
awk '
    BEGIN { n = split("ctx_switch 8 chan_pingpong 7 chan_buffered 2 chan_mpmc 2 select4 5 spawn_join 8 skynet 8 " \
                      "sieve 4 sleepers_cpu 3 mem_1m_spawn 2 mem_1m_wake 3 mutex_8 1.5 rw_8 1.5 once_free 1 wg_free 1 wg_park 3 sem_free 1 sem_8 3 cond_pingpong 3 ctx_cancel 2 ctx_tree 2 map_mixed 1 map_hot 1 pool_get_put 1 group_go 1", f, " ")
            for (i = 1; i < n; i += 2) bar[f[i]] = f[i + 1]
            most["sleepers_wall"] = 1; most["mutex_fair"] = 50; most["mem_1m_rss"] = 4710; most["mem_1m_small_rss"] = 1331
            bar["echo"] = 1.2; bar["echo_idle"] = 1; most["echo_idle_rss"] = 6144; most["blocking"] = 30
            most["hogs_p99"] = most["hogs_asleep_p99"] = 30
            most["sum_overhead"] = most["quicksort_overhead"] = 5
            least["sum_speedup"] = least["quicksort_speedup"] = 1.9; least["pipeline_speedup"] = 1.7 }
    { key = $3 " " $2; if (!(key in seen)) { seen[key] = 1; order[++keys] = key }
      value[$1, key, ++count[$1, key]] = $4; unit[key] = $5 }
    function sorted(who, key,    i, j, t, m) {
        m = count[who, key] + 0
        for (i = 1; i <= m; i++) v[i] = value[who, key, i]
        for (i = 2; i <= m; i++) for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        low = m ? v[1] : ""; high = m ? v[m] : ""; mid = m ? v[int((m + 1) / 2)] : ""
        return m
    }
    END {
        printf "%-20s %2s %11s %11s %7s %6s %-6s %9s %9s %s\n", "row", "P", "csp.h", "go", "ratio", "bar", "", "boost", "pthreads", "csp.h min..max"
        print "row\tprocs\tunit\tcsp_min\tcsp_median\tcsp_max\tgo_min\tgo_median\tgo_max\tratio\tboost_median\tpthreads_median" >"build/bench.tsv"
        for (k = 1; k <= keys; k++) {
            key = order[k]; split(key, part, " ")
            sorted("boost", key); boost = mid; sorted("pthreads", key); threads = mid
            sorted("go", key); go_low = low; go = mid; go_high = high
            if (!sorted("csp", key)) continue
            csp = mid; more = unit[key] == "x" || unit[key] ~ /\/s$/ # is better
            ratio = go == "" || csp <= 0 || go <= 0 || unit[key] == "%" ? "" : sprintf("%.2f", more ? csp / go : go / csp)
            verdict = ""; limit = ""
            if (part[1] in bar && ratio != "") { limit = bar[part[1]]; verdict = ratio + 0 >= limit + 0 ? "met" : "missed" }
            if (part[1] in most) { limit = "<" most[part[1]]; verdict = csp + 0 <= most[part[1]] ? "met" : "missed" }
            if (part[1] in least) { limit = ">" least[part[1]]; verdict = csp >= least[part[1]] ? "met" : "missed" }
            printf "%-20s %2s %11.3f %11s %7s %6s %-6s %9s %9s %.3f..%.3f %s\n", part[1], part[2], csp, go, ratio, limit, verdict, boost, threads, low, high, unit[key]
            printf "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", part[1], part[2], unit[key], low, csp, high, go_low, go, go_high, ratio, boost, threads >"build/bench.tsv"
        }
    }' $out/raw
