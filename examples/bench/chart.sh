#!/bin/sh
# chart.sh growth [build/growth.tsv] or chart.sh ratios [build/bench.tsv] - an SVG on stdout, from what
# growth.sh or compare.sh measured.
case ${1:-} in
growth) ;;
ratios) ;;
*) echo "chart.sh growth|ratios [TSV]" >&2; exit 1 ;;
esac
what=$1
file=${2:-$(dirname "$0")/../../build/$([ "$what" = growth ] && echo growth || echo bench).tsv}
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
    END {
        if (rows == 0) exit 1
        if (what == "growth") growth(); else ratios()
        print "</svg>"
    }' "$file"
