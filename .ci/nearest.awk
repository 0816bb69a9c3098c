# Of package names, the version of `name` that lies nearest to n; of two that do the higher one.
index($0, name) == 1 && substr($0, length(name) + 1) ~ /^[0-9]+$/ {
    v = substr($0, length(name) + 1) + 0
    d = v > n ? v - n : n - v
    if (best == "" || d < far || (d == far && v > best)) { best = v; far = d }
}
END { if (best != "") print best }
