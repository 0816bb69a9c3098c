#!/bin/sh
# growth.sh - how costs grow: runs build/growth over goroutines, capacities, cases, timers and
# connections at one processor, and rows of build/bench over the processors. The table, row / n /
# nanoseconds, goes to build/growth.tsv; chart.sh draws it. PREFIX as in compare.sh.
cd "$(dirname "$0")/../.." || exit 1
out=build/growth.tsv
printf 'row\tn\tns\n' >$out
while read -r row all; do
    for n in $all; do
        CSP_PROCS=1 $PREFIX build/growth "$row" "$n" | tr ' ' '\t' | tee -a $out
    done
done <<'END'
goroutines 100 1000 10000 100000 1000000
parked 100 1000 10000 100000 1000000
capacity 1 4 16 64 256 1024 4096 16384 65536
cases 2 5 10 20 50 100 200 500 1000
timers 1000 10000 100000 1000000
connections 10 100 1000 9900
END
cpus=$(getconf _NPROCESSORS_ONLN)
for row in chan_mpmc spawn_join skynet sieve; do
    procs=1
    while [ $procs -le "$cpus" ]; do
        for round in 1 2 3; do CSP_PROCS=$procs $PREFIX build/bench $row; done |
            awk -v p=$procs -v OFS='\t' '
                { ns = $3 == "ms" ? $2 * 1e6 : $2; if (best == "" || ns < best) best = ns }
                END { if (best != "") print "procs:" $1, p, best }' | tee -a $out
        procs=$((procs * 2))
    done
done
