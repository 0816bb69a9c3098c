# Whether what openloop printed is as a generator and a server should be that keep to their times.
{ v[$1] = $2 }
END {
    exit !(v["asked"] >= 1999 && v["asked"] <= 2001 && v["p50"] > 0 && v["p50"] <= v["p99"] &&
           v["p99"] <= v["max"] && v["slow_p50"] >= 4900 && v["cpu"] > 10)
}
