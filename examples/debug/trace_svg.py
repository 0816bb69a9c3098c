# trace_svg.py - a picture of a trace that csp.h wrote.
#
#     CSP_PROCS=2 CSP_TRACE=trace.json build/traced
#     python3 examples/debug/trace_svg.py trace.json >trace.svg
#     python3 examples/debug/trace_svg.py trace.json 100 250 >part.svg      from 100 us to 250 us
#
# A row for each processor and thread, a box for each turn of a goroutine, in its colour; an arrow
# from who wakes to who runs. What is too small to be seen in a picture is better looked at with
# ui.perfetto.dev.

import json
import sys
from xml.sax.saxutils import escape

LEFT, WIDTH, ROW, BOX, TOP = 90, 900, 38, 20, 44
COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#edc948", "#9c755f",
           "#ff9da7", "#bab0ac"]


def main():
    with open(sys.argv[1]) as file:
        events = json.load(file)
    turns = [e for e in events if e["ph"] == "X" and "g" in e.get("args", {})]
    if not turns:
        sys.exit("no goroutine ran in this trace")
    start = float(sys.argv[2]) if len(sys.argv) > 2 else min(e["ts"] for e in turns)
    end = float(sys.argv[3]) if len(sys.argv) > 3 else max(e["ts"] + e["dur"] for e in turns)
    events = [e for e in events if e["ph"] == "M" or
              start - e.get("dur", 0) <= e["ts"] <= end]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events
             if e["ph"] == "M" and e["name"] == "thread_name"}
    used = {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"}
    rows = {track: i for i, track in enumerate(sorted(used))}
    bottom = TOP + ROW * len(rows)
    goroutines = {}
    for e in turns:
        goroutines.setdefault(e["args"]["g"], e["name"])
    colours = {g: COLOURS[i % len(COLOURS)] for i, g in enumerate(sorted(goroutines))}

    def x(at):
        return LEFT + WIDTH * (min(max(at, start), end) - start) / (end - start)

    def y(e):
        return TOP + ROW * rows[e["pid"], e["tid"]]

    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
           'font-family="sans-serif" font-size="11">' % (LEFT + WIDTH + 20, bottom + 50),
           '<rect width="100%" height="100%" fill="white"/>',
           '<marker id="a" markerWidth="5" markerHeight="5" refX="4" refY="2.5" orient="auto">'
           '<path d="M0 0L5 2.5L0 5z" fill="#444"/></marker>']
    at = LEFT
    for g in sorted(goroutines):
        label = "%s %d" % (goroutines[g], g)
        out.append('<rect x="%d" y="10" width="12" height="12" fill="%s"/><text x="%d" y="20">%s'
                   '</text>' % (at, colours[g], at + 16, escape(label)))
        at += 36 + 7 * len(label)
    for track in rows:
        top = TOP + ROW * rows[track]
        out.append('<rect x="%d" y="%d" width="%d" height="%d" fill="#f3f3f3"/>'
                   '<text x="%d" y="%d" text-anchor="end">%s</text>' % (
                       LEFT, top, WIDTH, BOX + 6, LEFT - 8, top + 17,
                       escape(names.get(track, "?").split(",")[0][:13])))
    for e in events:
        if e["ph"] != "X":
            continue
        args = e.get("args", {})
        left, wide = x(e["ts"]), max(x(e["ts"] + e["dur"]) - x(e["ts"]), 0.7)
        colour = colours.get(args.get("g"), "#ddd" if e["name"] == "asleep" else "#444")
        tip = "%s, %.1f us%s" % (e["name"], e["dur"], "".join(
            ", %s %s" % item for item in args.items()))
        out.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s</title>'
                   '</rect>' % (left, y(e) + 3, wide, BOX, colour, escape(tip)))
        if wide > 7 * len(e["name"]):
            out.append('<text x="%.1f" y="%d" fill="%s">%s</text>' % (
                left + 3, y(e) + 17, "white" if "g" in args else "#888", escape(e["name"])))
    wakes = {e["id"]: e for e in events if e["ph"] == "s"}
    for e in events:
        if e["ph"] == "f" and e["id"] in wakes:
            s = wakes[e["id"]]
            x1, x2, y1, y2 = x(s["ts"]), x(e["ts"]), y(s) + 13, y(e) + 13
            out.append('<path d="M%.1f %dQ%.1f %d %.1f %d" fill="none" stroke="#444" '
                       'stroke-width="0.8" marker-end="url(#a)"/>' % (
                           x1, y1, (x1 + x2) / 2, min(y1, y2) - 16, x2, y2))
        elif e["ph"] == "i" and e["name"] in ("hand-off", "steal"):
            out.append('<text x="%.1f" y="%d" text-anchor="middle" font-size="9">%s</text>' % (
                x(e["ts"]), y(e) + BOX + 15, e["name"]))
    step = next(n * 10 ** p for p in range(9) for n in (1, 2, 5)
                if (end - start) / (n * 10 ** p) <= 12)
    for i in range(int((end - start) / step) + 1):
        out.append('<path d="M%.1f %dv6" stroke="#888"/><text x="%.1f" y="%d" text-anchor="middle"'
                   '>%d us</text>' % (x(start + i * step), bottom, x(start + i * step), bottom + 18,
                                      i * step))
    print("\n".join(out) + "\n</svg>")


main()
