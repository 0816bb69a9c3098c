#!/bin/sh
# scale.sh [ROW...] - runs build/scale over its rows and processors; the table goes to build/scale.tsv.
# Per 1,000 operations: membarriers, futex calls, acquisitions of the scheduler's lock and of the heaps
# of other processors, writes to the line that all of them read, looks at other processors in loops
# over all, steals. Last: membarriers a second. An operation of row idle is a goroutine that wakes on
# an idle processor, 1,000 times a second on each.
cd "$(dirname "$0")/../.." || exit 1
out=build/scale.tsv
[ $# -gt 0 ] || set -- yield ping_pong buffered mpmc select4 spawn_join skynet mutex echo timers fork_join idle
printf 'row\tprocs\toperations\tseconds\tbarriers\tfutex\tsched_lock\theaps\twrites\tlooks\tsteals\tbarriers_s\n' >$out
for row; do
    for procs in 1 2 4 8 16 32 64; do
        build/scale "$row" $procs | tee -a $out || exit 1
    done
done
