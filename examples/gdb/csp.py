# csp.py - goroutines for gdb, in live processes and in core files.
#
#     (gdb) source examples/gdb/csp.py
#     (gdb) csp goroutines            all of them, and what each waits for
#     (gdb) csp bt 129                the stack of one
#     (gdb) csp bt all
#     (gdb) csp core FILE             a core file of a live process, with the goroutines in it
#
# What to notice: a goroutine that does not run is a stack pointer; what csp__switch pushed there
# and csp__switch's own unwind table lead gdb to its frames. Nothing is written to the process.
# gdb's own gcore leaves out a mapping as soon as it meets a page there that cannot be read, as the
# guard pages below the stacks are: `csp core` adds what is missing. The kernel's cores have it all.
# The file with CSP_IMPLEMENTATION must have been compiled with -g.

import os
import re
import struct
import gdb
from gdb.unwinder import Unwinder


TAGS = ("_100", "_110", "_101", "_111")  # of functions in assembly: CSP__CONTEXT_TAG in csp.h


def symbol(*names):
    """The value of the first of these expressions that means something."""
    for name in names:
        try:
            return gdb.parse_and_eval(name)
        except gdb.error:
            continue
    else:
        raise gdb.GdbError("no %s: is this a program with csp.h, compiled with -g?" % name)


def text(value):
    try:
        return value.string(errors="replace") if int(value.address or 1) and value else ""
    except (gdb.error, gdb.MemoryError):
        return "?"


class Goroutine:
    """What the program knows of one, as the dump has it."""

    STATES = ["new", "new", "runnable", "running", "waiting"]

    def __init__(self, g):
        self.id = int(g["id"])
        state = int(g["state"])
        self.state = self.STATES[state] if state < len(self.STATES) else "?"
        self.cb = g["cb"].dereference() if state > 1 else None
        self.sp = int(g["sp"]) if self.cb else 0
        try:
            self.lost = self.cb is not None and int(self.cb["g"]) != int(g.address)
        except gdb.MemoryError:
            self.lost = True
        if self.lost:
            self.cb = None
        self.site = g["site"].dereference()

    def __str__(self):
        what = self.state
        name = text(self.cb["name"]) if self.cb else ""
        place = ""
        if self.state == "waiting" and int(self.cb["what"]):
            what, place = self.place()
            if int(self.cb["on"]) and int(self.cb["on"]) != int(symbol("&csp__asleep")):
                what += " 0x%x" % int(self.cb["on"])
        line = "goroutine %d [%s] %s%s, started at %s:%d" % (
            self.id, what, name + " " if name else "", text(self.site["name"]),
            text(self.site["file"]), int(self.site["line"]))
        return line + ("\n    waits at " + place if place else "")

    def place(self):
        """What it waits for, and where: one string, with a 0 between the two."""
        memory, at, parts = gdb.selected_inferior(), int(self.cb["what"]), []
        try:
            for i in range(2):
                part = b""
                while True:
                    byte = memory.read_memory(at, 1).tobytes()
                    at += 1
                    if byte == b"\0":
                        break
                    part += byte
                parts.append(part.decode(errors="replace"))
        except gdb.MemoryError:
            return "?", ""
        return parts


HINT = """csp: %s not in this core. gdb's gcore leaves out a mapping in which a page cannot be
csp: read, such as a stack's guard page: take it by `csp core FILE`, in gdb, or let the kernel
csp: write it (ulimit -c unlimited; kill -ABRT).
"""


def listed():
    """All goroutines by id; says what a core lacks."""
    found = sorted(goroutines(), key=lambda g: g.id)
    sched = symbol("csp__sched")
    there = int(sched["spawned_foreign"])
    for i in range(int(sched["nmade"])):
        there += int(sched["procs"][i]["spawned"]) - int(sched["procs"][i]["ended"])
    lost = sum(g.lost for g in found)
    if len(found) < there:
        gdb.write(HINT % ("%d of %d goroutines are" % (there - len(found), there)))
    elif lost:
        gdb.write(HINT % ("the stacks of %d goroutines are" % lost))
    return found


def goroutines():
    slab = symbol("csp__sched")["slabs"]
    while int(slab):
        records = slab["g"]
        first, last = records.type.range()
        size = records.type.target().sizeof
        at = [f.bitpos // 8 for f in records.type.target().fields() if f.name == "id"][0]
        memory = gdb.selected_inferior().read_memory(int(records.address), size * (last + 1))
        for i in range(first, last + 1):
            if memory[i * size + at:i * size + at + 8].tobytes() != bytes(8):
                yield Goroutine(records[i])
        slab = slab["link"]


class Parked(Unwinder):
    """While armed, lets the selected thread's innermost frame appear to be called by csp__switch,
    as it is where the goroutine has left its stack."""

    # what follows the last push: mov %rsp,(%rdi); str x9,[x0]
    STORES = {"i386:x86-64": b"\x48\x89\x27", "aarch64": b"\x09\x00\x00\xf9"}

    def __init__(self):
        super().__init__("csp-goroutine")
        self.sp = None

    def arm(self, sp):
        self.sp = sp
        self.pc = None
        if sp is None:
            return
        arch = gdb.selected_frame().architecture()
        store = self.STORES.get(arch.name())
        if store is None:
            raise gdb.GdbError("csp: no unwinding for " + arch.name())
        start = int(symbol(*("(unsigned long)&csp__switch" + tag for tag in TAGS)))
        code = gdb.selected_inferior().read_memory(start, 256).tobytes()
        self.pc = start + code.index(store) + len(store)
        self.names = ("rsp", "rip") if arch.name() == "i386:x86-64" else ("sp", "pc")

    def __call__(self, frame):
        if self.sp is None:
            return None
        pointer = gdb.lookup_type("unsigned long")
        below = gdb.Value(self.sp - 16).cast(pointer)  # a caller's frame must lie above
        info = frame.create_unwind_info(FrameId(below, frame.read_register(self.names[1])))
        info.add_saved_register(self.names[0], gdb.Value(self.sp).cast(pointer))
        info.add_saved_register(self.names[1], gdb.Value(self.pc).cast(pointer))
        self.sp = None  # the frames below are ordinary ones
        return info


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


PARKED = Parked()
gdb.unwinder.register_unwinder(None, PARKED, replace=True)


def backtrace(skip):
    lines = gdb.execute("backtrace", to_string=True)
    number = -skip
    for frame in re.split(r"(?m)^(?=#\d)", lines):
        if frame.startswith("#"):
            if number >= 0:
                gdb.write(re.sub(r"^#\d+ *", "#%-3d" % number, frame))
            number += 1


def backtrace_of(g):
    if g.cb is None:
        gdb.write("its stack is not in this core\n" if g.lost else "has not run yet\n")
        return
    kept = gdb.selected_thread()
    low, top = int(g.cb["low"]), int(g.cb["top"])
    try:
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            if low <= int(gdb.newest_frame().read_register("sp")) < top:
                backtrace(0)
                return
        if g.state == "running":
            gdb.write("runs on a thread that gdb does not see on its stack\n")
            return
        PARKED.arm(g.sp)
        gdb.invalidate_cached_frames()
        backtrace(1)
    finally:
        PARKED.arm(None)
        gdb.invalidate_cached_frames()
        kept.switch()


class Csp(gdb.Command):
    """Goroutines of csp.h: `csp goroutines`, `csp bt ID`, `csp bt all`."""

    def __init__(self):
        super().__init__("csp", gdb.COMMAND_STACK, prefix=True)


class CspGoroutines(gdb.Command):
    """Lists the goroutines: id, state, what each waits for, name, and where it was started."""

    def __init__(self):
        super().__init__("csp goroutines", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        found = listed()
        for g in found:
            gdb.write(str(g) + "\n")
        gdb.write("%d goroutines\n" % len(found))


class CspBt(gdb.Command):
    """Shows the stack of a goroutine, given its id, or of all."""

    def __init__(self):
        super().__init__("csp bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if not re.match(r"\d+$|all$", argument.strip()):
            raise gdb.GdbError("csp bt ID, or csp bt all")
        found = [g for g in listed() if argument.strip() in ("all", str(g.id))]
        if not found:
            raise gdb.GdbError("there is no goroutine %s" % argument.strip())
        for g in sorted(found, key=lambda g: g.id):
            gdb.write(str(g) + "\n")
            backtrace_of(g)


class CspCore(gdb.Command):
    """Writes a core file as generate-core-file does, with the goroutines and their stacks in it."""

    def __init__(self):
        super().__init__("csp core", gdb.COMMAND_STACK, gdb.COMPLETE_FILENAME)

    def ranges(self):
        """Where goroutines are, and their stacks."""
        slab = symbol("csp__sched")["slabs"]
        while int(slab):
            yield int(slab), int(slab) + slab.type.target().sizeof
            slab = slab["link"]
        arena = symbol("csp__stacks")["arenas"]
        while int(arena):
            yield int(arena["base"]), int(arena["end"])
            arena = arena["link"]

    def segments(self, core):
        """(address, size, place in the file) of what the file has of the process's memory."""
        head = core.read(64)
        wide = head[4] == 2
        order = "<" if head[5] == 1 else ">"
        at, = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
        size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
        if count == 0xffff:
            raise gdb.GdbError("csp: too many mappings for this command")
        core.seek(at)
        table = core.read(size * count)
        for i in range(count):
            entry = struct.unpack_from(order + ("IIQQQQ" if wide else "IIIIII"), table, i * size)
            if wide:
                kind, _, place, address, _, length = entry
            else:
                kind, place, address, _, length, _ = entry
            if kind == 1 and length > 0:
                yield address, length, place

    def invoke(self, argument, from_tty):
        if not argument.strip():
            raise gdb.GdbError("csp core FILE")
        path = os.path.expanduser(argument.strip())
        ranges = list(self.ranges())
        try:
            memory = open("/proc/%d/mem" % gdb.selected_inferior().pid, "rb", buffering=0)
            pages = open("/proc/%d/pagemap" % gdb.selected_inferior().pid, "rb", buffering=0)
        except OSError as error:
            raise gdb.GdbError("csp core needs a live process on this machine: %s" % error)
        gdb.execute("generate-core-file " + path, to_string=True)
        page = os.sysconf("SC_PAGESIZE")
        added = 0
        with open(path, "r+b") as core, memory, pages:
            for address, length, place in list(self.segments(core)):
                for low, high in ranges:
                    low, high = max(low, address) // page * page, min(high, address + length)
                    if low < high:
                        added += self.copy(core, place - address, memory, pages, page, low, high)
        gdb.write("Saved corefile %s, with %d pages of goroutines\n" % (path, added))

    def copy(self, core, shift, memory, pages, page, low, high):
        """The pages from low to high that have been touched; returns how many."""
        added = 0
        pages.seek(low // page * 8)
        known = pages.read((high - low + page - 1) // page * 8)
        for i in range(len(known) // 8):
            if known[8 * i + 7] & 0xc0 == 0:  # neither in memory nor swapped out: zeros
                continue
            try:
                memory.seek(low + i * page)
                data = memory.read(page)
            except OSError:  # a guard page
                continue
            core.seek(low + i * page + shift)
            core.write(data[:high - low - i * page])
            added += 1
        return added


Csp()
CspGoroutines()
CspBt()
CspCore()
