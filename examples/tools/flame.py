#!/usr/bin/env python3
# flame.py [TITLE] <FOLDED >PICTURE.svg - a flame graph of what CSP_DEBUG=profile=FOLDED wrote:
#
#     CSP_DEBUG=profile=p.folded ./program
#     python3 examples/tools/flame.py <p.folded >p.svg
#
# What to notice: a line of the input is "outermost;...;innermost NUMBER", which other tools for flame
# graphs read as well; here the number is microseconds of waiting, summed over goroutines. The widest
# box at the bottom is a task, above it what it waited for, at the top the lines of the calls.
import html
import re
import sys

WIDTH, ROW, SMALL = 960, 22, 6.4  # pixels: the picture, a row, a letter
COLORS = {"receive": "#9ecae1", "send": "#a1d99b", "select": "#bcbddc", "mutex": "#fc9272", "sleep": "#d9d9d9",
          "waitgroup": "#fdd0a2", "semaphore": "#fdae6b", "read": "#c7e9c0", "write": "#c7e9c0", "accept": "#c7e9c0"}


class Box:
    def __init__(self, name):
        self.name, self.value, self.children = name, 0, {}


def read(lines):
    root = Box("")
    for line in lines:
        stack, _, number = line.rstrip("\n").rpartition(" ")
        if not stack or not number.isdigit():
            sys.exit("flame.py: not in the folded form: " + line.strip())
        box = root
        box.value += int(number)
        for name in re.sub(r"[^ (;]*/", "", stack).split(";"):  # files without their directories
            box = box.children.setdefault(name, Box(name))
            box.value += int(number)
    return root


def shown(us):
    return "%.3g s" % (us / 1e6) if us >= 1e6 else "%.3g ms" % (us / 1e3) if us >= 1e3 else "%d us" % us


def depth(box):
    return 1 + max(map(depth, box.children.values()), default=0)


def draw(box, x, width, level, height, color, total, out):
    for child in sorted(box.children.values(), key=lambda c: -c.value):
        w = width * child.value / max(box.value, 1)
        if w >= 0.5:
            fill = COLORS.get(child.name, color)
            y = height - (level + 1) * ROW
            about = html.escape("%s: %s, %.1f %%" % (child.name, shown(child.value), 100 * child.value / max(total, 1)))
            out.append('<g><title>%s</title><rect x="%.1f" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>'
                       % (about, x + 0.5, y, max(w - 1, 0.5), ROW - 1, fill))
            room = int((w - 8) / SMALL)
            text = child.name if len(child.name) <= room else child.name[:room - 2] + ".." if room > 6 else ""
            if text:
                out.append('<text x="%.1f" y="%d">%s</text>' % (x + 5, y + 15, html.escape(text)))
            out.append("</g>")
            draw(child, x, w, level + 1, height, fill, total, out)
        x += w


def main():
    root = read(sys.stdin)
    height = depth(root) * ROW + 12
    title = sys.argv[1] if len(sys.argv) > 1 else "waiting"
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">' % (WIDTH, height, WIDTH, height),
           '<style>text { font: 11px monospace; fill: #222 } .title { font: bold 12px sans-serif }</style>',
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           '<text class="title" x="6" y="16">%s: %s in all</text>' % (html.escape(title), shown(root.value))]
    draw(root, 4, WIDTH - 8, 0, height - 4, "#fee391", root.value, out)
    print("\n".join(out + ["</svg>"]))


main()
