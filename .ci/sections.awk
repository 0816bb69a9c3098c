# The banners of the header, and its wings, are those of its table of contents, in order.
/^\/\* #+ [A-Z]+ #+ \*\/$/ { wing = $3 }
/^ \* \[[0-9A-Z]+\] / && banner { n++; tag[n] = $2; name[n] = $3; stands[n] = wing }
{ banner = /^\/\* =+$/ }
/^ \*.* \[[0-9A-Z]+\] +[A-Z]/ && !banner && n == 0 {
    line = $0
    if ($2 ~ /^[A-Z]+$/) part = $2
    while (match(line, /\[[0-9A-Z]+\] +[A-Z]+/)) {
        split(substr(line, RSTART, RLENGTH), f, / +/)
        listed[f[1]] = f[2]
        wings[f[1]] = part
        count++
        line = substr(line, RSTART + RLENGTH)
    }
}
END {
    for (i = 1; i <= n; i++) {
        if (!(tag[i] in listed)) { print "not in the table of contents: " tag[i], name[i]; bad = 1 }
        else if (listed[tag[i]] != name[i]) { print "differs: " tag[i], name[i], "is listed as", listed[tag[i]]; bad = 1 }
        else if (stands[i] != (wings[tag[i]] == "INTERFACE" ? "" : wings[tag[i]])) {
            print "in another wing: " tag[i], name[i], "stands in " stands[i] ", listed in " wings[tag[i]]
            bad = 1
        }
        number = substr(tag[i], 2, length(tag[i]) - 2)
        if (number ~ /^[0-9]+$/) {
            if (number + 0 <= last) { print "out of order: " tag[i], name[i]; bad = 1 }
            last = number + 0
        }
        seen[tag[i]] = 1
    }
    for (t in listed) if (!(t in seen)) { print "listed, but no section: " t, listed[t]; bad = 1 }
    print n " sections, " count + 0 " listed"
    exit bad || n == 0
}
