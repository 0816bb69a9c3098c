#!/bin/sh
# chart.sh growth [build/growth.tsv], chart.sh ratios [build/bench.tsv] or chart.sh specialists
# [build/specialists.tsv] - an SVG on stdout, from what growth.sh, compare.sh or specialists.sh measured.
# chart.sh table [build/specialists.tsv] - the same in Markdown: all medians, one processor / two.
case ${1:-} in
growth) table=growth ;;
ratios) table=bench ;;
specialists | table) table=specialists ;;
*) echo "chart.sh growth|ratios|specialists|table [TSV]" >&2; exit 1 ;;
esac
what=$1
file=${2:-$(dirname "$0")/../../build/$table.tsv}
awk -F '\t' -v what="$what" '
    function log10(x) { return log(x) / log(10) }
    function text(x, y, anchor, s) { printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, s }
    function line(x1, y1, x2, y2, colour) {
        printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2, colour
    }
    function start(width, height) {
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n", width, height
        printf "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, height
    }
    function short(n) { return n >= 1e6 ? n / 1e6 "M" : n >= 20000 ? int(n / 1000 + 0.5) "k" : n >= 1000 ? n / 1000 "k" : n }
    FNR == 1 { next }
    what == "growth" {
        if (!($1 in count)) order[++rows] = $1
        x[$1, ++count[$1]] = $2; y[$1, count[$1]] = $3
    }
    what == "ratios" && $10 != "" && $10 > 0 && $1 !~ /_(serial|1p)$/ {
        if (!($1 in known)) { known[$1] = 1; order[++rows] = $1 }
        ratio[$1, $2] = $10
    }
    what == "table" { median[$1, $2, $4] = $6; unit[$1] = $3 }
    what == "specialists" { # the most processors that the row has; the best of the others
        if (!($1 in procs) || $2 > procs[$1]) { procs[$1] = $2; unit[$1] = $3; delete csp[$1]; delete best[$1] }
        if ($4 ~ /^csp/) { if (!($1 in csp) || $6 + 0 < csp[$1] + 0) csp[$1] = $6 }
        else if (!($1 in best) || ($3 ~ /\/s$/ ? $6 + 0 > best[$1] + 0 : $6 + 0 < best[$1] + 0)) { best[$1] = $6; by[$1] = $4 }
    }
    function panel(row, left, top, title,    w, h, i, xs, low, high, px, py, d, from, to) { # log-log
        w = 230; h = 130; from = x[row, 1]; to = x[row, count[row]]
        low = 1e30; high = 0
        for (i = 1; i <= count[row]; i++) { if (y[row, i] < low) low = y[row, i]; if (y[row, i] > high) high = y[row, i] }
        low = int(log10(low) + 100) - 100; high = -int(-log10(high) + 100) + 100
        if (high - low < 2) high = low + 2
        printf "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", left, top - 8, title
        for (d = low; d <= high; d++) {
            py = top + h - (d - low) / (high - low) * h
            line(left, py, left + w, py, "#ddd")
            text(left - 4, py + 4, "end", d < 3 ? 10 ^ d " ns" : d < 6 ? 10 ^ (d - 3) " us" : d < 9 ? 10 ^ (d - 6) " ms" : 10 ^ (d - 9) " s")
        }
        xs = log10(to / from); if (xs == 0) xs = 1
        for (i = 1; i <= count[row]; i++) {
            px = left + log10(x[row, i] / from) / xs * w
            py = top + h - (log10(y[row, i]) - low) / (high - low) * h
            points = (i == 1 ? "" : points " ") sprintf("%.1f,%.1f", px, py)
            printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"#1f6feb\"/>\n", px, py
            if (i == 1 || i == count[row] || x[row, i] ~ /^10*$/) text(px, top + h + 14, "middle", short(x[row, i]))
        }
        printf "<polyline points=\"%s\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.5\"/>\n", points
    }
    function growth(    i, row, title) {
        title["goroutines"] = "a yield, among n goroutines"; title["parked"] = "spawn and end, beside n parked"
        title["capacity"] = "an element, channel of n"; title["cases"] = "select over n, one ready"
        title["timers"] = "timer set and freed, beside n"; title["connections"] = "echo of a byte, n connections"
        start(930, 40 + int((rows + 2) / 3) * 190)
        for (i = 1; i <= rows; i++) {
            row = order[i]
            panel(row, 60 + (i - 1) % 3 * 300, 40 + int((i - 1) / 3) * 190, row ~ /^procs:/ ? substr(row, 7) ", n processors" : title[row])
        }
    }
    function bar(p, top, r, colour,    a, b) {
        a = 260; b = 260 + log10(r) * 300
        printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"7\" fill=\"%s\"/>\n", r < 1 ? b : a, top, r < 1 ? a - b : b - a, r < 1 ? "#cf222e" : colour
        text(r < 1 ? a + 4 : b + 4, top + 7, "start", sprintf("%.2f", r) + 0)
    }
    function ratios(    i, top, r) {
        start(900, 60 + rows * 22)
        text(260, 20, "middle", "Go takes so many times what csp.h takes; dark: one processor, light: two; red: Go is faster")
        for (r = 1; r <= 100; r *= 10) { line(260 + log10(r) * 300, 30, 260 + log10(r) * 300, 50 + rows * 22, r == 1 ? "#333" : "#ccc"); text(260 + log10(r) * 300, 28 + 34 + rows * 22 - 4, "middle", r) }
        for (i = 1; i <= rows; i++) {
            top = 36 + (i - 1) * 22
            text(120, top + 11, "end", order[i])
            if ((order[i], 1) in ratio) bar(1, top, ratio[order[i], 1], "#0a3069")
            if ((order[i], 2) in ratio) bar(2, top + 9, ratio[order[i], 2], "#54aeff")
        }
    }
    function times(r) { return r < 10 ? sprintf("%.1f", r) : sprintf("%.0f", r) }
    function titles(    n, i, j, list) {
        rows = split("fib=recursion, a task for each call|tree=tree of a million nodes, by loops|tree_rss=tree of a million nodes, memory|" \
            "tree_go=tree of a million tasks|tree_go_rss=tree of a million tasks, memory|sum=sum of an array|" \
            "matrix=product of two matrices|quicksort=quicksort|sort=stable sort of records|ctx_switch=yield|" \
            "chan_pingpong=message and its answer|chan_buffered=message through a buffer|chan_mpmc=queue, 4 senders, 4 receivers|" \
            "select4=message by select over 4|spawn_join=task started and joined|skynet=a million tasks and channels|" \
            "sieve=prime sieve, 2000 channels|mutex_8=mutex, 8 contenders|sleepers_cpu=100,000 sleepers, CPU|sleepers_20k_cpu=20,000 sleepers, CPU|" \
            "timers_start=timer started, beside 100,000|timers_cpu=100,000 timers, start to end, CPU|" \
            "timers_cancel=timer cancelled, beside 100,000|timers_1m_start=timer started, beside a million|" \
            "timers_1m_cpu=a million timers, start to end, CPU|timers_1m_cancel=timer cancelled, beside a million|" \
            "echo=echo, 64 connections|http_plain=web server, short text, CPU|http_file=web server, small file, CPU|" \
            "http_log=web server with an access log, CPU", list, "|")
        for (i = 1; i <= rows; i++) { j = index(list[i], "="); order[i] = substr(list[i], 1, j - 1); title[order[i]] = substr(list[i], j + 1) }
        programs = split("csp=csp.h csp-clang=csp.h_(clang) tbb=oneTBB gomp=OpenMP_(gcc) lomp=OpenMP_(LLVM) rayon=Rayon tokio=Tokio erlang=Erlang " \
            "moodycamel=moodycamel ck=Concurrency_Kit urcu=liburcu libuv=libuv libevent=libevent epoll=bare_epoll nginx=nginx", list, " ")
        for (i = 1; i <= programs; i++) { j = index(list[i], "="); who[i] = substr(list[i], 1, j - 1); name[who[i]] = substr(list[i], j + 1); gsub(/_/, " ", name[who[i]]) }
    }
    function figure(x) { return sprintf(x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x) }
    function one(row, program, p,    m, mine) { # bold where it is better than the best of csp.h
        if (!((row, p, program) in median)) return ""
        m = median[row, p, program]; mine = median[row, p, "csp"]
        if ((row, p, "csp-clang") in median && median[row, p, "csp-clang"] + 0 < mine + 0) mine = median[row, p, "csp-clang"]
        return program ~ /^csp/ || (unit[row] ~ /\/s$/ ? m + 0 <= mine + 0 : m + 0 >= mine + 0) ? figure(m) : "**" figure(m) "**"
    }
    function both(row, program,    a, b) {
        a = one(row, program, 1); b = one(row, program, 2)
        return a == "" ? b : b == "" ? a : a " / " b
    }
    function markdown(    i, k, row, words, u, s) {
        titles()
        print "| | csp.h | the others |\n| --- | ---: | --- |"
        for (i = 1; i <= rows; i++) {
            row = order[i]; words = ""
            if (!(row in unit)) continue
            u = unit[row]
            for (k = 3; k <= programs; k++) if ((s = both(row, who[k])) != "") words = words (words == "" ? "" : ", ") name[who[k]] " " s
            sub(/\/op$/, "", u)
            printf "| %s, %s | %s%s | %s |\n", title[row], u, both(row, "csp"), (s = both(row, "csp-clang")) == "" ? "" : ", by clang " s, words
        }
    }
    function value(x, unit) {
        sub(/\/op$/, "", unit)
        if (unit == "req/s") { x /= 1000; unit = "k/s" }
        return figure(x) " " unit
    }
    function specialists(    i, j, r, row, top, a, b, left, scale, how, colour, found) {
        titles(); found = 0
        for (i = 1; i <= rows; i++) {
            row = order[i]
            if (!(row in best) || !(row in csp) || csp[row] <= 0 || best[row] <= 0) continue
            ratio[row, 2] = unit[row] ~ /\/s$/ ? csp[row] / best[row] : best[row] / csp[row]
            order[++found] = row
        }
        rows = found
        for (i = 2; i <= rows; i++)
            for (j = i; j > 1 && ratio[order[j], 2] < ratio[order[j - 1], 2]; j--) { row = order[j]; order[j] = order[j - 1]; order[j - 1] = row }
        left = 455; scale = 140; start(930, 70 + rows * 21)
        printf "<text x=\"465\" y=\"24\" text-anchor=\"middle\" font-size=\"16\" font-weight=\"bold\">csp.h beside the best specialist for each job</text>\n"
        printf "<text x=\"465\" y=\"42\" text-anchor=\"middle\"><tspan fill=\"#cf222e\">red: csp.h takes more</tspan>, "
        printf "<tspan fill=\"#0a3069\">blue: csp.h takes less</tspan>; right: csp.h and the specialist, medians, on two cores</text>\n"
        for (i = 1; i <= rows; i++) {
            row = order[i]; r = ratio[row, 2]; top = 56 + (i - 1) * 21
            colour = r > 0.97 && r < 1.03 ? "#6e7781" : r < 1 ? "#cf222e" : "#0a3069"
            a = left; b = left + log10(r) * scale
            text(248, top + 11, "end", title[row])
            printf "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>\n", r < 1 ? b : a, top, r < 1 ? a - b : b - a, colour
            how = r < 1 ? "times slower than " : "times faster than "
            if (unit[row] == "MB") how = r < 1 ? "times the memory of " : "times less memory than "
            if (unit[row] == "us" || unit[row] == "s") how = r < 1 ? "times the CPU time of " : "times less CPU time than "
            how = r > 0.97 && r < 1.03 ? "the same as " name[by[row]] : times(r < 1 ? 1 / r : r) " " how name[by[row]]
            text((r < 1 ? a : b) + 6, top + 11, "start", how)
            text(920, top + 11, "end", value(csp[row], unit[row]) " : " value(best[row], unit[row]))
        }
        line(left, 50, left, 58 + rows * 21, "#333")
    }
    END {
        if (what == "specialists") specialists()
        if (what == "table") { markdown(); exit }
        if (rows == 0) exit 1
        if (what == "growth") growth()
        if (what == "ratios") ratios()
        print "</svg>"
    }' "$file"
