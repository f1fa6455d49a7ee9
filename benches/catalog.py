#!/usr/bin/env python3
"""Measures how barge reads a large operator catalog, against Python's json module on the same bytes, in one run.

    benches/catalog.py [--runs 5] [--bundles 10000] [--mib 40] [--dir DIR]

Builds the release binary (or takes that which $BARGE names), makes a file-based catalog of so many bundles in an OCI layout
with one gzip layer, as JSON and as YAML, and prints medians and the most memory that `barge catalog list --json` took.
Needs GNU time.
"""
import argparse
import gzip
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

sys.dont_write_bytecode = True
import bench

LABEL = "operators.operatorframework.io.index.configs.v1"
PER_PACKAGE = 50


def documents(bundles, size):
    """Yields the documents of one package after the other, together about `size` bytes of JSON."""
    words = random.Random(7)
    filler = "".join(words.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=64 * 1024))
    each = size // bundles
    for first in range(0, bundles, PER_PACKAGE):
        package = f"operator-{first // PER_PACKAGE:03}"
        names = [f"{package}.v1.{at}.0" for at in range(min(PER_PACKAGE, bundles - first))]
        entries = [{"name": name, **({"replaces": names[at - 1]} if at else {})} for at, name in enumerate(names)]
        found = [{"schema": "olm.package", "name": package, "defaultChannel": "stable", "description": "Made for measuring."}]
        found += [{"schema": "olm.channel", "package": package, "name": name, "entries": entries} for name in ("stable", "fast")]
        for at, name in enumerate(names):
            image = lambda what: f"registry.example/{package}/{what}@sha256:{words.getrandbits(256):064x}"
            bundle = {
                "schema": "olm.bundle", "name": name, "package": package, "image": image("bundle"),
                "properties": [
                    {"type": "olm.package", "value": {"packageName": package, "version": f"1.{at}.0"}},
                    {"type": "olm.gvk", "value": {"group": "made.example", "kind": "Made", "version": "v1"}},
                ],
                "relatedImages": [{"name": what, "image": image(what)} for what in ("bundle", "operator", "proxy")],
            }
            left = max(0, each - len(json.dumps(bundle, indent=4)) - 350)
            start = words.randrange(len(filler) - left)
            bundle["properties"].append({"type": "olm.bundle.object", "value": {"data": filler[start:start + left]}})
            found.append(bundle)
        yield package, found


def as_yaml(value, indent=0):
    """Writes block YAML, scalars as JSON writes them."""
    pad = " " * indent
    nested = lambda value: "\n" + as_yaml(value, indent + 2) if isinstance(value, (dict, list)) else f" {json.dumps(value)}\n"
    if isinstance(value, dict):
        return "".join(f"{pad}{key}:{nested(item)}" for key, item in value.items())
    return "".join(f"{pad}-{nested(item)}" for item in value)


def layer(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return gzip.compress(out.getvalue(), 6, mtime=0)


def make(path, files):
    layout = bench.Layout(path)
    blob = layout.blob(bench.LAYER, layer(files))
    config = {"os": "linux", "architecture": "amd64", "config": {"Labels": {LABEL: "/configs"}}, "rootfs": {"type": "layers", "diff_ids": []}}
    config = layout.blob(bench.CONFIG, json.dumps(config).encode())
    manifest = {"schemaVersion": 2, "mediaType": bench.MANIFEST, "config": config, "layers": [blob]}
    entry = layout.blob(bench.MANIFEST, json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "registry.example/index:v1"}
    layout.entries.append(entry)
    layout.finish()


def measured(layout, bundles):
    """Seconds and MiB of one listing."""
    command = ["/usr/bin/time", "-f", "%e %M", bench.BARGE, "catalog", "list", "--json", f"oci:{layout}"]
    start = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seconds = time.monotonic() - start
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    found = sum(package["bundles"] for package in json.loads(result.stdout)["packages"])
    assert found == bundles, found
    return seconds, int(result.stderr.split()[-1]) / 1024


PEER = """
import json, sys, time
texts = [open(name).read() for name in sys.argv[1:]]
start = time.monotonic()
decoder, count = json.JSONDecoder(), 0
for text in texts:
    at = 0
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        count += 1
        while at < len(text) and text[at].isspace():
            at += 1
print(time.monotonic() - start)
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bundles", type=int, default=10000)
    parser.add_argument("--mib", type=int, default=40)
    parser.add_argument("--dir", default=None)
    args = parser.parse_args()
    bench.build()
    folder = tempfile.mkdtemp(prefix="barge-bench-", dir=args.dir)
    try:
        forms = {"JSON": {}, "YAML": {}}
        for package, found in documents(args.bundles, args.mib * bench.MIB):
            text = "".join(json.dumps(document, indent=4) + "\n" for document in found)
            forms["JSON"][f"configs/{package}/catalog.json"] = text.encode()
            text = "".join("---\n" + as_yaml(document) for document in found)
            forms["YAML"][f"configs/{package}/catalog.yaml"] = text.encode()
        plain = []
        for name, text in forms["JSON"].items():
            plain.append(os.path.join(folder, name.replace("/", "-")))
            with open(plain[-1], "wb") as file:
                file.write(text)
        peer = statistics.median(float(bench.run(sys.executable, "-c", PEER, *plain)) for _ in range(args.runs))
        print(f"| {args.bundles} bundles, {os.cpu_count()} cores, median of {args.runs} | time | memory | |\n| --- | --- | --- | --- |")
        size = sum(map(len, forms["JSON"].values())) / bench.MIB
        print(f"| python3 json: parsing {size:.1f} MiB that are in memory | {peer:.2f} s | | |", flush=True)
        for form, files in forms.items():
            path = os.path.join(folder, form)
            make(path, files)
            size = sum(map(len, files.values())) / bench.MIB
            times, memory = zip(*(measured(path, args.bundles) for _ in range(args.runs)))
            seconds = statistics.median(times)
            print(f"| barge catalog list --json: {size:.1f} MiB of {form} in a gzip layer, unpacked and hashed | {seconds:.2f} s | {max(memory):.0f} MiB | {seconds / peer:.2f} × python3 json |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
