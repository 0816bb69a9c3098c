#!/bin/sh
# table.sh [--check FILE] - the tables of the guide, measured anew: bytes on a Cortex-M3, and
# instructions and bytes of stack on a Cortex-M3 and a Cortex-M0. --check: they stand in FILE, line by line; else what
# differs is shown. Other versions of gcc than 12 give other numbers: nothing is compared then.
build=${BUILD:-../../build/firmware}
make="${MAKE:-make} -s --no-print-directory"

thousands() { # 12345 becomes 12,345
    sed -e ':a' -e 's/\([0-9]\)\([0-9]\{3\}\)\($\|[^0-9]\)/\1,\2\3/;ta'
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
        sed 1d $build/$b/stacks.out | cat $build/$b/measure.all - >"$build/$b.counts"
    done
    paste -d: $build/mps2-an385.counts $build/microbit.counts |
        sed 's/^\([^:]*\): \([0-9]*\) [a-z ]*:[^:]*: \([0-9]*\) [a-z ]*$/| \1 | \2 | \3 |/' | thousands
}

if [ "$1" != --check ]; then
    tables
    exit
fi
case $(arm-none-eabi-gcc -dumpversion) in
12.*) ;;
*) echo "not compared: the README's numbers are those of gcc 12"; exit 0 ;;
esac
tables >$build/table.md || exit 1
grep -vxFf "$2" $build/table.md >$build/table.diff
if [ -s $build/table.diff ]; then
    echo "$2 says otherwise:"
    cat $build/table.diff
    exit 1
fi
echo "ok: $(wc -l <$build/table.md) lines as in $2"
