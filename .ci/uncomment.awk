# C without its comments.
FNR == 1 { inside = 0 }
{
    line = $0
    if (inside && !sub(/^.*\*\//, "", line)) next
    inside = 0
    gsub(/\/\*[^*]*\*+([^*\/][^*]*\*+)*\//, " ", line)
    sub(/\/\/.*/, "", line)
    if (match(line, /\/\*/)) { line = substr(line, 1, RSTART - 1); inside = 1 }
    print line
}
