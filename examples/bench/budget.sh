#!/bin/sh
# budget.sh DIR - instructions per operation, counted by callgrind at one processor, against budgets:
# the difference of two runs of DIR/bench or DIR/budget over the difference of their -n. It fails
# when one is over. The counts repeat to 1 % whatever else the machine does; the budgets stand about 6 %
# above gcc 12's at -O2 on x86-64, where they were set. BUDGET=50 takes so many per cent of them.
dir=${1:-build}
[ "$(uname -m)" = x86_64 ] || { echo "instructions: the budgets are x86-64's"; exit 0; }

count() { # PROGRAM ROW N
    CSP_PROCS=1 valgrind --tool=callgrind --callgrind-out-file=/dev/null "$dir/$1" "$2" -n "$3" 2>&1 |
        sed -n 's/,//g; s/^==[0-9]*== Collected : \([0-9]*\)$/\1/p'
}

bad=0 all=
while read -r program row budget what; do
    few=$(count "$program" "$row" 10000)
    many=$(count "$program" "$row" 40000)
    [ -n "$few" ] && [ -n "$many" ] || { echo "$row: no count"; exit 1; }
    used=$(((many - few + 15000) / 30000))
    limit=$((budget * ${BUDGET:-100} / 100))
    verdict=
    [ "$used" -le "$limit" ] || { verdict=': OVER'; bad=1; }
    echo "$row: $used of $limit for $what$verdict"
    all="$all $row $used${verdict:+ > $limit}"
done <<'END'
bench ctx_switch 99 a yield that switches
bench chan_pingpong 453 an unbuffered round trip: two rendezvous
bench chan_buffered 139 a send to a buffer and a receive from it
bench spawn_join 285 a goroutine started, run and ended
budget mutex 25 a lock and an unlock nobody else wants
budget sem 137 an acquire and a release
budget select_ready 384 a select over four with one ready, and a send to a buffer
budget timer 607 a function set among a thousand timers, stopped and freed
budget timer_call 401 the same by csp_timer_call, freed
budget timer_fires 906 one of a thousand calls that are set, fire, run and are freed
budget fork_join 66 a fork and a join of what no processor takes
budget waitgroup_go 664 a task of a waitgroup started, run and done, of ten at a time
budget rwmutex 51 a lock for reading and its unlock
END
echo "instructions:$all"
exit $bad
