#!/bin/sh
# sizes.sh - what each part of csp adds to a firmware, in bytes, on BOARD (default mps2-an385, a
# Cortex-M3) at -Os. Fails where that board has more than promised: 6,400 bytes of flash for the
# scheduler, channels, select, sleep, mutex and waitgroup, 5,800 without names and panics, 200 bytes
# of RAM, 64 bytes for a goroutine beside its stack (bare_test.c checks that); and where libgcc's
# division of 64 bits is linked.
board=${BOARD:-mps2-an385}
elf=${BUILD:-../../build/firmware}/$board/size.elf
cross=$(sed -n 's/^CROSS = //p' "$board/board.mk")

measure() { # DEFINES... - sets text, data, bss
    ${MAKE:-make} -s --no-print-directory BOARD="$board" PROGRAM=size.c DEFINES="$*" build >&2 ||
        exit 1
    set -- $("${cross}size" "$elf" | tail -n 1)
    text=$1 data=$2 bss=$3
}

row() { # NAME DEFINES... - beside the firmware without csp, and the row before
    name=$1
    shift
    measure "$@"
    flash=$((text + data - text0 - data0)) ram=$((data + bss - data0 - bss0 - 512)) # size.c's memory
    printf '%-44s %6d %6d %+7d\n' "$name" "$flash" "$ram" $((flash - before))
    before=$flash
}

promised() { # FLASH - by the row before, on a Cortex-M3
    if [ "$board" = mps2-an385 ] && { [ "$flash" -gt "$1" ] || [ "$ram" -gt 200 ]; }; then
        echo 'more than promised'
        exit 1
    fi
}

measure -DUSE=0
text0=$text data0=$data bss0=$bss before=0
least='-DCSP_NO_NAMES -DCSP_NO_PANIC'
printf '%-44s %6s %6s %7s\n' "$board" flash RAM by
row 'goroutines' -DUSE=1
row '+ channels' -DUSE=2
row '+ select' -DUSE=3
row '+ sleep, deadlines' -DUSE=4
row '+ mutex, waitgroup' -DUSE=5
promised 6400
row '+ timers, tickers' -DUSE=6
row '+ rwmutex, cond, once, sem' -DUSE=7
row '+ contexts, groups' -DUSE=8
row '+ `csp_try`, `csp_dump`: all of it' -DUSE=9
if "${cross}nm" "$elf" | grep -E '__(u?div|u?mod|aeabi_u?ldiv|udivmod)[a-z0-9]*[dl][i4m]' | grep -v idiv0; then
    echo 'a division of 64 bits'
    exit 1
fi
before=0
row 'goroutines, without names and panics' -DUSE=1 $least
row '+ channels to waitgroup' -DUSE=5 $least
promised 5800
row '+ timers to groups: all of it' -DUSE=8 $least
