#!/bin/sh
# table.sh [--check FILE] - the tables of the guide and of README.md, measured anew: bytes on a
# Cortex-M3, instructions and bytes of stack on a Cortex-M3 and a Cortex-M0, and csp's column beside
# FreeRTOS. --check: they stand in FILE or README.md, line by line; else what differs is shown.
# Other versions of gcc than 12 give other numbers: nothing is compared then.
make="${MAKE:-make} -s --no-print-directory"
build=${BUILD:-../../build/firmware}

thousands() { # 12345 becomes 12,345
    sed -e ':a' -e 's/\([0-9]\)\([0-9]\{3\}\)\($\|[^0-9]\)/\1,\2\3/;ta'
}

size() { # ROW of sizes.sh - "flash / RAM"
    echo "$sizes" | sed -n "s/^$1  *\([0-9]*\)  *\([0-9]*\)  *[-+][0-9]*\$/\1 \/ \2/p"
}

count() { # ROW of measure.c, on the Cortex-M3
    sed -n "s/^$1: \([0-9]*\) .*/\1/p" $build/mps2-an385.counts
}

busy() { # DEFINES - the three times of beside.c, in ms
    $make BOARD=mps2-an385 PROGRAM=beside.c DEFINES="$1" run >/dev/null || exit 1
    sed 's/.*: //; s/ us//' $build/mps2-an385/beside.out | awk '{ printf "%s%.1f", n++ ? " / " : "", $1 / 1000 }'
}

# The peers' columns were measured once, by the same board files and with the same counting, see the guide.
beside() {
    one=$(busy '') two=$(busy -DCSP_PRIORITIES=2) || exit 1
    cat <<END
| flash / RAM: tasks | $(size goroutines) | 1816 / 888 | 2780 / 896 |
| + queues | $(size '+ channels') | 3932 / 1040 | 5936 / 1048 |
| + select (queue sets) | $(size '+ select') | 4200 / 1128 | 6328 / 1136 |
| + delays, mutex, waitgroup (counting semaphore) | $(size '+ mutex, waitgroup') | 5276 / 1296 | 7720 / 1304 |
| + timers | $(size '+ timers, tickers') | 6460 / 1984 | 9352 / 1992 |
| yield, instructions | $(count 'yield to another goroutine') | 63 | 86 |
| send with room | $(count 'send into a buffer') | 95 | 108 |
| send to one that waits, until it runs | $(count 'send to a goroutine that waits, until it runs') | 292 | 338 |
| handler sends, until it runs, from idle | $(count 'handler sends, until the goroutine runs, from idle') | 292 (notification 174) | 350 (225) |
| the same beside 1 / 2 / 4 busy for 1 ms each | $one ms | at once, by priority | at once, by priority |
| the same with priorities | $two ms | at once, by priority | at once, by priority |
END
}

tables() {
    sizes=$(sh sizes.sh) || { echo "$sizes" >&2; exit 1; }
    echo "$sizes" | sed 1d | awk '{
        flash = $(NF - 2); ram = $(NF - 1)
        sub(/ +[0-9]+ +[0-9]+ +[-+][0-9]+$/, "")
        print "| " $0 " | " flash " | " ram " |"
    }' | thousands
    for b in mps2-an385 microbit; do
        $make measure BOARDS=$b >/dev/null || exit 1
        $make BOARD=$b PROGRAM=stacks.c run >/dev/null || exit 1
        sed 1d $build/$b/stacks.out | cat $build/$b/measure.all - >$build/$b.counts
    done
    paste -d: $build/mps2-an385.counts $build/microbit.counts |
        sed 's/^\([^:]*\): \([0-9]*\) [a-z ]*:[^:]*: \([0-9]*\) [a-z ]*$/| \1 | \2 | \3 |/' | thousands
    beside | thousands
    echo "| $(size '+ mutex, waitgroup' | sed 's, / , | ,') | 64 + stack |" \
        "$(count 'yield to another goroutine') | $(count 'send into a buffer') |" \
        "$(count 'send to a goroutine that waits, until it runs') | $(count 'interrupts masked, at most') |" | thousands
}

if [ "$1" != --check ]; then
    tables
    exit
fi
case $(arm-none-eabi-gcc -dumpversion) in
12.*) ;;
*) echo "not compared: the guide's numbers are those of gcc 12"; exit 0 ;;
esac
tables >$build/table.md || exit 1
cat "$2" ../../README.md | grep -vxFf - $build/table.md >$build/table.diff
if [ -s $build/table.diff ]; then
    echo "$2 or README.md says otherwise:"
    cat $build/table.diff
    exit 1
fi
echo "ok: $(wc -l <$build/table.md) lines as in $2 and README.md"
