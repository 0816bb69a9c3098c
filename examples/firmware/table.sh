#!/bin/sh
# table.sh [--check FILE] - the tables of the guide, measured anew: bytes on a Cortex-M3, and
# instructions and bytes of stack on a Cortex-M3 and a Cortex-M0. --check: they stand in FILE, line by line; else what
# differs is shown. Other versions of gcc than 12 give other numbers: nothing is compared then.
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
        sed 1d ../../build/firmware/$b/stacks.out | cat ../../build/firmware/$b/measure.all - >"../../build/firmware/$b.counts"
    done
    paste -d: ../../build/firmware/mps2-an385.counts ../../build/firmware/microbit.counts |
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
tables >../../build/firmware/table.md || exit 1
grep -vxFf "$2" ../../build/firmware/table.md >../../build/firmware/table.diff
if [ -s ../../build/firmware/table.diff ]; then
    echo "$2 says otherwise:"
    cat ../../build/firmware/table.diff
    exit 1
fi
echo "ok: $(wc -l <../../build/firmware/table.md) lines as in $2"
