# A tree of files; the parallel search says the same as a serial one, and as grep.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/a/b" "$work/tree/c"
for i in $(seq 1 200); do
    echo "file $i"
    [ $((i % 7)) = 0 ] && echo "a needle in $i"
    echo "the end"
done >"$work/tree/a/one"
for i in $(seq 1 60); do
    case $((i % 3)) in 0) to=a/b ;; 1) to=c ;; *) to=a ;; esac
    echo "needle number $i" >"$work/tree/$to/$i"
done
printf 'needle\0' >"$work/tree/c/binary"
printf 'needle without an end' >"$work/tree/c/open"
printf 'nothing\n' >"$work/tree/nothing"
"$1/search" -j 8 needle "$work/tree" >"$work/parallel"
echo "exit code $?"
"$1/search" -j 1 needle "$work/tree" >"$work/serial"
cmp "$work/parallel" "$work/serial" && echo "in parallel as in series"
rm "$work/tree/c/binary"
grep -rn needle "$work/tree" | sort >"$work/grep"
sort "$work/parallel" | cmp - "$work/grep" && echo "as grep has it"
sed "s,$work/,," "$work/parallel" | sed -n '1,3p;30,33p;$p'
"$1/search" nowhere "$work/tree"
echo "exit code $?"
