# A tree of 40 files in 13 directories, by all four versions; then progress, then the return key.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for a in 1 2 3; do
    for b in 1 2 3; do
        mkdir -p "$work/tree/$a/$b"
        for c in 1 2 3 4; do printf '%0*d' $((a * 100 + b * 10 + c)) 0 >"$work/tree/$a/$b/$c"; done
    done
    echo >"$work/tree/$a/file"
done
echo hello >"$work/tree/hello"
for version in 1 2 3 4; do "$1/du" -$version "$work/tree" </dev/null; done
"$1/du" -4 "$work/tree/1" "$work/tree/2" "$work/none" </dev/null 2>&1 | sed "s,$work/,,"
"$1/du" -2 -v -s "$work/tree" | sed -n '1s/[0-9][0-9]*/N/gp; $p'
echo | "$1/du" -4 -s "$work/tree" | sed 's/[0-9][0-9]*/N/g'
