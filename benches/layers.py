#!/usr/bin/env python3
"""Measures deltas inside layers on the pairs that `benches/pairs.py` makes, and on a layer of 6 GiB.

    benches/layers.py [--pairs /tmp/pairs] [--dir DIR] [--only base,python,…] [--encoders go6,…] [--level auto,max]
                      [--huge] [--huge-only] [--runs 1] [--json FILE]

For each pair and encoder: an image with the old layer is packed, `barge diff` makes the delta to an image with the
new one, `barge merge` rebuilds it, and the rebuilt layer is compared with the new one byte for byte. Rates are plain
(unpacked) bytes of the new layer for each second of processor time, so for each core; a time is that of the whole
command: reading, hashing, deciding, writing and syncing too. The smallest of some runs counts. Exits with 1 if a
layer differs, was not patched, or a goal was missed.

Needs GNU time, and pigz for the 6 GiB. DIR takes about 1 GB, for `--huge` 35 GB; everything in it is removed at the
end. Takes the barge that $BARGE names, else builds it. Works without a network once the pairs are there. Also reached as `bench.py --only layers`.
"""
import argparse
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

sys.dont_write_bytecode = True  # Nothing is left behind in the tree.

from bench import BARGE, LAYER, MIB, Layout, build, run
from pairs import ENCODERS, PAIRS

# From the issue: percent of the whole blob by pair and encoder, MB/s of plain bytes a core, MiB of memory.
GOALS = {"base": {"go6": 8, "zlib6": 8, "pgzip": 11, "go1": 11}, "jars": 3.5, "python": 20, "gobin": 9}
MAKE_RATE, APPLY_RATE, MEMORY = 15, 60, 512
NAME = "registry.example/bench/layers:v1"
MAGIC = b"BARGEPT1"
# No command may take longer than that, in seconds; the one for 6 GiB takes minutes.
LIMIT = 3600
HUGE = 6 * 1024 * MIB


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def goal(pair, encoder):
    """Percent of the whole blob at most, or None for what has no goal."""
    found = GOALS.get(pair)
    return found.get(encoder) if isinstance(found, dict) else found


def image(folder, packed, diff_id):
    """A layout with one image whose only layer is the file `packed`; gives the layer's digest (hex)."""
    layout = Layout(folder)
    layer = digest(packed)
    link = os.path.join(folder, "blobs", "sha256", layer)
    try:
        os.link(packed, link)
    except OSError:
        shutil.copyfile(packed, link)
    descriptor = {"mediaType": LAYER, "digest": "sha256:" + layer, "size": os.path.getsize(packed)}
    layout.image(NAME, [descriptor], ["sha256:" + diff_id])
    layout.finish()
    return layer


def measured(*command):
    """Runs barge; gives seconds, processor seconds and MiB of memory at the peak."""
    with tempfile.NamedTemporaryFile("r") as file:
        full = ["/usr/bin/time", "-q", "-f", "%e %U %S %M", "-o", file.name, BARGE, *command]
        try:
            result = subprocess.run(full, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"barge {' '.join(command)}: not done after {LIMIT} s") from None
        if result.returncode != 0:
            raise SystemExit(f"barge {' '.join(command)}\n{result.stderr[-2000:]}")
        seconds, user, system, kib = (float(word) for word in file.read().split())
    return {"seconds": seconds, "cpu": max(user + system, 0.01), "mib": kib / 1024}


def best(runs, out, *command):
    """The fastest of some runs that write `out`, with the highest peak of memory of them."""
    results = []
    for _ in range(runs):
        for path in (out, sidecar(out)):
            if os.path.exists(path):
                os.remove(path)
        results.append(measured(*command))
    chosen = min(results, key=lambda result: result["cpu"])
    return dict(chosen, mib=max(result["mib"] for result in results))


def sidecar(out):
    return out.removesuffix(".oci.tar").removesuffix(".barge") + ".barge.json"


def carried(delta, layer):
    """What the delta bundle holds of the layer: bytes of patches, and the bytes of the layer itself if it is whole."""
    patches = whole = 0
    with tarfile.open(delta) as archive:
        for member in archive:
            if member.isreg():
                if os.path.basename(member.name) == layer:
                    whole += member.size
                elif archive.extractfile(member).read(len(MAGIC)) == MAGIC:
                    patches += member.size
    return patches, whole


def rebuilt(bundle, layer):
    """Whether the bundle holds the layer, with exactly the bytes of its digest."""
    with tarfile.open(bundle) as archive:
        for member in archive:
            if member.isreg() and member.name == "blobs/sha256/" + layer:
                return hashlib.file_digest(archive.extractfile(member), "sha256").hexdigest() == layer
    return False


def pair(args, folder, label, level, old, new, plain, at_most):
    """Makes and applies one delta; `old` and `new` are (file, diff id), `plain` the new one's bytes unpacked."""
    folder = tempfile.mkdtemp(dir=folder)
    try:
        image(os.path.join(folder, "old"), *old)
        layer = image(os.path.join(folder, "new"), *new)
        base, delta, full = (os.path.join(folder, name) for name in ("old.oci.tar", "x.barge", "full.oci.tar"))
        run(BARGE, "pack", f"oci:{folder}/old", "-o", base)
        made = best(args.runs, delta, "diff", base, f"oci:{folder}/new", "--layer-delta", level, "-o", delta)
        patches, whole = carried(delta, layer)
        applied = best(args.runs, full, "merge", base, delta, "-o", full)
        return row(label, level, os.path.getsize(new[0]), patches, whole, plain, made, applied, rebuilt(full, layer), at_most)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def row(label, level, size, patches, whole, plain, made, applied, same, at_most):
    """Prints a row of the table; gives it as a document, with all that it misses."""
    share = (patches + whole) / size
    rates = [plain / 1e6 / step["cpu"] for step in (made, applied)]
    missed = []
    if not same:
        missed.append("the rebuilt layer differs")
    if whole or not patches:
        missed.append("not patched")
    if at_most and share * 100 > at_most:
        missed.append(f"more than {at_most} %")
    if level == "auto" and rates[0] < MAKE_RATE:
        missed.append(f"made at less than {MAKE_RATE} MB/s")
    if rates[1] < APPLY_RATE:
        missed.append(f"applied at less than {APPLY_RATE} MB/s")
    if max(made["mib"], applied["mib"]) > MEMORY:
        missed.append(f"more than {MEMORY} MiB")
    steps = [f"{step['seconds']:.1f} s, {rate:.0f} MB/s, {step['mib']:.0f} MiB" for step, rate in zip((made, applied), rates)]
    aim = f"{at_most} %" if at_most else "–"
    print(
        f"| {label} | {level} | {size / 1e6:.1f} | {(patches + whole) / 1e6:.2f} | {share:.2%} | {aim} | {steps[0]} | {steps[1]} "
        f"| {'; '.join(missed) or 'met'} |", flush=True,
    )
    return {
        "applied": applied, "goal": at_most, "label": label, "layer": size, "level": level, "made": made, "missed": missed,
        "patch": patches, "plain": plain, "same": same, "whole": whole,
    }


class Counted:
    """A file to write to that hashes and counts what goes through."""

    def __init__(self, file):
        self.file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, data):
        self.size += len(data)
        self.hash.update(data)
        return self.file.write(data)

    def tell(self):
        return self.size


def edited(content, seed):
    """The content with three bytes changed in each 128 KiB, and one block of 40 bytes gone: what a rebuild does."""
    changed, seeded = bytearray(content), random.Random(seed)
    for start in range(0, len(changed), 128 * 1024):
        at = start + seeded.randrange(min(128 * 1024, len(changed) - start))
        changed[at:at + 3] = bytes(seeded.randrange(256) for _ in changed[at:at + 3])
    if len(changed) > 4096:
        at = seeded.randrange(len(changed) - 40)
        del changed[at:at + 40]
    return bytes(changed)


def generate(source, out, changed):
    """A gzip layer of 6 GiB: the files of a tar again and again, each time edited, and one of them at 1 GiB. Of the
    files of the `changed` side a twentieth is edited once more. Gives diff id and size unpacked."""
    class Endless:
        """One large file, made as it is read: the source's tar over and over, its blocks edited."""

        def __init__(self):
            self.file, self.round = open(source, "rb"), 0

        def read(self, count):
            self.round += 1
            data = self.file.read(count)
            if len(data) < count:
                self.file.seek(0)
                data += self.file.read(count - len(data))
            again = changed and self.round % 997 == 0
            return data[:100] + b"%08d" % (self.round + again * 50000000) + data[108:]

    with open(out, "wb") as file:
        packer = subprocess.Popen(["pigz", "-1", "-n", "-T", "-c"], stdin=subprocess.PIPE, stdout=file)
        counted = Counted(packer.stdin)
        with tarfile.open(fileobj=counted, mode="w|", format=tarfile.PAX_FORMAT, bufsize=MIB) as archive:
            info = tarfile.TarInfo("data/large.bin")
            info.size, info.mtime = 1024 * MIB, 1700000000
            large = Endless()
            archive.addfile(info, large)
            large.file.close()
            copy = 0
            while counted.size < HUGE:
                with tarfile.open(source) as files:
                    for number, member in enumerate(files):
                        if not member.isreg() or not member.size:
                            continue
                        if counted.size >= HUGE:
                            break
                        content = edited(files.extractfile(member).read(), f"{copy}/{number}")
                        if changed and random.Random(f"{copy}/{number}/which").randrange(20) == 0:
                            content = edited(content, f"{copy}/{number}/again")
                        info = tarfile.TarInfo(f"copy{copy:03}/{member.name}")
                        info.size, info.mtime, info.mode = len(content), member.mtime, member.mode
                        archive.addfile(info, io.BytesIO(content))
                        archive.members = []
                        files.members = []
                copy += 1
        packer.stdin.close()
        if packer.wait() != 0:
            raise SystemExit("pigz failed")
    return counted.hash.hexdigest(), counted.size


def huge(args, folder):
    """A layer of 6 GiB, for its memory."""
    folder = tempfile.mkdtemp(dir=folder)
    free = shutil.disk_usage(folder).free
    if free < 35e9:
        raise SystemExit(f"--huge needs 35 GB in --dir, {free / 1e9:.0f} GB are free")
    source = os.path.join(args.pairs, "base", "new.tar")
    try:
        sides = []
        for side in ("old", "new"):
            path = os.path.join(folder, side + ".gz")
            diff_id, plain = generate(source, path, side == "new")
            sides.append((path, diff_id))
        return pair(argparse.Namespace(runs=1), folder, "6 GiB, pigz -1", "auto", *sides, plain, None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bench_layers(args, folder):
    """Prints the table; gives its rows as documents."""
    head = ["layer", "level", "MB", "patch MB", "of it", "at most", "made", "applied", f"goals (≥ {MAKE_RATE} and {APPLY_RATE} MB/s, ≤ {MEMORY} MiB)"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    rows = []
    for name in args.pairs_only:
        old, new = (os.path.join(args.pairs, name, side) for side in ("old", "new"))
        if not os.path.exists(new + ".tar"):
            raise SystemExit(f"{new}.tar is not there: make the pairs with benches/pairs.py --dir {args.pairs}")
        diff_ids, plain = [digest(side + ".tar") for side in (old, new)], os.path.getsize(new + ".tar")
        for encoder in args.encoders:
            files = [f"{side}.{encoder}.gz" for side in (old, new)]
            for level in args.level:
                sides = list(zip(files, diff_ids))
                rows.append(pair(args, folder, f"{name}, {encoder}", level, *sides, plain, goal(name, encoder)))
    if args.huge:
        rows.append(huge(args, folder))
    missed = sum(bool(row["missed"]) for row in rows)
    print(f"\n{len(rows) - missed} of {len(rows)} met all goals", flush=True)
    return rows


def some(text, known):
    chosen = text.split(",")
    for word in chosen:
        if word not in known:
            raise argparse.ArgumentTypeError(f"no `{word}`; there are {', '.join(known)}")
    return chosen


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="/tmp/pairs")
    parser.add_argument("--dir", default=None)
    parser.add_argument("--only", dest="pairs_only", type=lambda text: some(text, PAIRS), default=PAIRS)
    parser.add_argument("--encoders", type=lambda text: some(text, ENCODERS), default=ENCODERS)
    parser.add_argument("--level", type=lambda text: some(text, ["auto", "max", "off"]), default=["auto"])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--huge", action="store_true")
    parser.add_argument("--huge-only", action="store_true")
    parser.add_argument("--json", default=None)
    args = parser.parse_args(given)
    if args.huge_only:
        args.huge, args.pairs_only = True, []
    return args


def main():
    args = arguments()
    build()
    folder = tempfile.mkdtemp(prefix="barge-layers-", dir=args.dir)
    try:
        rows = bench_layers(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1, sort_keys=True)
    return 1 if any(row["missed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
