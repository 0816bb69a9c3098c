#!/bin/sh
# compare.sh [ROW...] - csp.h beside Go on the same cores: alternating runs, medians of ROUNDS (3),
# at one and at two processors; beside echo a pair of C threads on epoll, as row echo_epoll. GO names
# the go command. The table also goes to build/bench.tsv.
cd "$(dirname "$0")/../.." || exit 1
go=${GO:-go}
rounds=${ROUNDS:-3}
out=build/compare
rows=${*:-ctx_switch chan_pingpong chan_buffered chan_mpmc select4 spawn_join skynet sieve sleepers mem_1m mem_1m_small ctx_cancel ctx_tree map_mixed map_hot pool_get_put group_go echo echo_idle blocking hogs hogs_asleep}
mkdir -p $out
if command -v "$go" >/dev/null 2>&1; then
    (cd examples/bench/peers/gobench && "$go" build -o "../../../../$out/gobench" .) || exit 1
else
    echo "no go command: csp.h alone (unpack a Go toolchain and say GO=/path/to/go make bench-peers)"
    rm -f $out/gobench
fi
: >$out/raw
for row in $rows; do
    if [ "$row" = echo ] && ${CC:-cc} -O2 examples/bench/peers/echo_epoll.c -o $out/echo_epoll -pthread; then
        for round in $(seq "$rounds"); do $out/echo_epoll | sed 's/^/csp 2 /' >>$out/raw; done
    fi
    for procs in 1 2; do
        pin=
        [ $procs = 1 ] && command -v taskset >/dev/null && pin='taskset -c 0'
        for round in $(seq "$rounds"); do
            CSP_PROCS=$procs $pin build/bench "$row" | sed "s/^/csp $procs /" >>$out/raw
            if [ -x $out/gobench ] && [ "$row" != mem_1m_small ]; then
                GOMAXPROCS=$procs $pin $out/gobench "$row" | sed "s/^/go $procs /" >>$out/raw
            fi
        done
    done
done
awk '
    BEGIN { n = split("ctx_switch 8 chan_pingpong 7 chan_buffered 2 chan_mpmc 2 select4 5 spawn_join 8 skynet 8 " \
                      "sieve 4 sleepers_cpu 3 mem_1m_spawn 2 mem_1m_wake 3 ctx_cancel 2 ctx_tree 2 map_mixed 1 map_hot 1 pool_get_put 1 group_go 1 echo 1.2 echo_idle 1", f, " ")
            for (i = 1; i < n; i += 2) bar[f[i]] = f[i + 1]
            most["sleepers_wall"] = 1; most["mem_1m_rss"] = 4710; most["mem_1m_small_rss"] = 1331
            most["echo_idle_rss"] = 6144; most["blocking"] = 30; most["hogs_p99"] = most["hogs_asleep_p99"] = 30 }
    { key = $3 " " $2; if (!(key in seen)) { seen[key] = 1; order[++keys] = key }
      value[$1, key, ++count[$1, key]] = $4; unit[key] = $5 }
    function sorted(who, key,    i, j, t, m) {
        m = count[who, key]
        for (i = 1; i <= m; i++) v[i] = value[who, key, i]
        for (i = 2; i <= m; i++) for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return m
    }
    END {
        printf "%-20s %5s %12s %12s %7s %6s %-6s %s\n", "row", "procs", "go", "csp.h", "ratio", "bar", "", "csp.h min..max"
        for (k = 1; k <= keys; k++) {
            key = order[k]; split(key, part, " "); m = sorted("go", key)
            go = m ? v[int((m + 1) / 2)] : ""
            m = sorted("csp", key); if (!m) continue
            csp = v[int((m + 1) / 2)]; ratio = go == "" ? "" : sprintf("%.2f", unit[key] == "req/s" ? csp / go : go / csp)
            verdict = ""; limit = ""
            if (part[1] in bar && ratio != "") { limit = bar[part[1]]; verdict = ratio >= limit ? "met" : "missed" }
            if (part[1] in most) { limit = "<" most[part[1]]; verdict = csp <= most[part[1]] ? "met" : "missed" }
            printf "%-20s %5s %12s %12.3f %7s %6s %-6s %.3f..%.3f %s\n", part[1], part[2], go, csp, ratio, limit, verdict, v[1], v[m], unit[key]
            printf "%s\t%s\t%s\t%s\t%s\t%s\n", part[1], part[2], go, csp, v[1], v[m] >"build/bench.tsv"
        }
    }' $out/raw
