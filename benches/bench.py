#!/usr/bin/env python3
"""Measures barge against parallel curl, skopeo and openssl, in one run on one machine.

    benches/bench.py [--runs 5] [--dir DIR] [--only pack,push,verify,open,delta,memory,layers]

Builds the release binary (or takes that which $BARGE names), makes 20 images with shared layers (2 GB) and a registry
on a loopback port, and prints a table of medians and ratios. Needs docker-registry, skopeo, curl, openssl and GNU time
(`tests/run` installs the first two). DIR takes about 15 GB while it runs; everything in it is removed at the end.
`layers` is only run if it is named: it measures the layer pairs in /tmp/pairs, as `benches/layers.py` does.
"""
import argparse
import gzip
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BARGE = os.environ.get("BARGE") or os.path.join(ROOT, "target", "release", "barge")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MIB = 1024 * 1024


class Layout:
    """An OCI layout of random layers: gzip streams, so that no tool compresses them, over what need not be tar files."""

    def __init__(self, path):
        self.path = path
        self.entries = []
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        with open(os.path.join(path, "oci-layout"), "w") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, media_type, content):
        digest = hashlib.sha256(content).hexdigest()
        with open(os.path.join(self.path, "blobs", "sha256", digest), "wb") as file:
            file.write(content)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(content)}

    def image(self, name, layers, diff_ids=None):
        diff_ids = diff_ids or [l["digest"] for l in layers]
        config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        config = self.blob(CONFIG, json.dumps(config).encode())
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        entry = self.blob(MANIFEST, json.dumps(manifest).encode())
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
        self.entries.append(entry)

    def finish(self):
        with open(os.path.join(self.path, "index.json"), "w") as file:
            json.dump({"schemaVersion": 2, "manifests": self.entries}, file)


class Registry:
    """Debian's docker-registry on a free loopback port, ended by `stop`."""

    def __init__(self, folder, log=None):
        self.folder = folder
        os.makedirs(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = "127.0.0.1:%d" % free.getsockname()[1]
        config = os.path.join(folder, "config.yml")
        with open(config, "w") as file:
            file.write(
                "version: 0.1\nlog: {level: error, accesslog: {disabled: %s}}\n" % ("false" if log else "true") +
                f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, cache: {{blobdescriptor: inmemory}}}}\n"
                f"http: {{addr: '{self.host}'}}\n"
            )
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log or subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1).read()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("docker-registry did not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def build():
    if "BARGE" not in os.environ:
        run("cargo", "build", "--release", "--locked", cwd=ROOT)


def timed(work):
    start = time.monotonic()
    result = work()
    return time.monotonic() - start, result


def median(runs, prepare, work):
    """Median of `work` over some runs, each after `prepare`; `work` may return seconds that do not count."""
    times = []
    for _ in range(runs):
        prepare()
        seconds, off = timed(work)
        times.append(seconds - (off or 0))
    return statistics.median(times)


def row(what, seconds, against=""):
    print(f"| {what} | {seconds:.2f} s | {against} |", flush=True)


def bench_pack(args, folder, registry, names, blobs):
    out = os.path.join(folder, "out")

    def clean():
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        os.sync()

    def curl():
        lines = [f'url = "http://{registry.host}/v2/{repo}/blobs/{digest}"\noutput = "{out}/{digest[7:]}"' for digest, repo in blobs.items()]
        run("curl", "-sSf", "-Z", "--parallel-max", "8", "-K", "-", input="\n".join(lines))

    def barge():
        text = run(BARGE, "pack", "--json", "--attachments", "none", *[f"{registry.host}/{name}" for name in names], "-o", f"{out}/b.oci.tar")
        return json.loads(text)["syncSeconds"]

    def skopeo():
        for name in names:
            run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{registry.host}/{name}", f"oci:{out}/layout:{name}")

    base = median(args.runs, clean, curl)
    row("pack: curl -Z, 8 at once, to files, nothing hashed", base)
    mine = median(args.runs, clean, barge)
    row("pack: barge (hashed; without the final sync)", mine, f"{mine / base:.2f} × curl")
    peer = median(max(1, args.runs // 2), clean, skopeo)
    row("pack: skopeo, image by image into one layout", peer, f"barge takes {mine / peer:.2f} of it")
    clean()


def bench_push(args, folder, layout, names, blobs):
    bundle = os.path.join(folder, "push.oci.tar")
    run(BARGE, "pack", f"oci:{layout}", "-o", bundle)
    state = {}

    def fresh():
        if state:
            state["registry"].stop()
        state["registry"] = Registry(os.path.join(folder, f"target{time.monotonic_ns()}"))
        os.sync()

    def curl():
        host = state["registry"].host
        script = (
            'l=$(curl -sSf -X POST -D - -o /dev/null "http://$1/v2/$2/blobs/uploads/" | tr -d "\\r" | sed -n "s/^[Ll]ocation: //p");'
            'curl -sSf -X PUT -H "Content-Type: application/octet-stream" -T "$4/blobs/sha256/${3#sha256:}" "$l&digest=$3" -o /dev/null'
        )
        lines = "\n".join(f"{host} {repo} {digest} {layout}" for digest, repo in blobs.items())
        run("xargs", "-P", "8", "-L", "1", "sh", "-c", script, "sh", input=lines)

    def barge():
        run(BARGE, "push", bundle, state["registry"].host)

    def skopeo():
        for name in names:
            run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:registry.example/{name}", f"docker://{state['registry'].host}/{name}")

    base = median(args.runs, fresh, curl)
    row("push: curl, 8 at once, blobs only, once each", base)
    peer = median(max(1, args.runs // 2), fresh, skopeo)
    mine = median(args.runs, fresh, barge)
    row("push: barge (hashed, tagged, read back)", mine, f"{mine / base:.2f} × curl")
    row("push: skopeo, image by image", peer, f"barge takes {mine / peer:.2f} of it")
    again = median(args.runs, lambda: None, barge)
    row("push: barge again, nothing new", again)
    state["registry"].stop()
    os.remove(bundle)


def bench_verify(args, folder, layout):
    bundle = os.path.join(folder, "verify.oci.tar")
    run(BARGE, "pack", f"oci:{layout}", "-o", bundle)
    size = os.path.getsize(bundle)
    cores = os.cpu_count()
    run("sh", "-c", f"cat {bundle} >/dev/null")

    def openssl():
        script = 'openssl dgst -sha256 "$1" >/dev/null'
        run("xargs", "-P", str(cores), "-L", "1", "sh", "-c", script, "sh", input="\n".join([bundle] * cores))

    base = median(args.runs, lambda: None, openssl) / cores
    mine = median(args.runs, lambda: None, lambda: run(BARGE, "verify", "--cached", bundle) and None)
    row(f"verify: openssl dgst -sha256 × {cores} cores, the same bytes, in memory", base, f"{size / base / 1e9:.2f} GB/s")
    row("verify: barge --cached", mine, f"{base / mine:.2f} of openssl × cores")

    def drop():
        os.sync()
        with open(bundle, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    cat = median(args.runs, drop, lambda: run("sh", "-c", f"cat {bundle} >/dev/null") and None)
    cold = median(args.runs, drop, lambda: run(BARGE, "verify", bundle) and None)
    row("verify: cat from the disk", cat)
    row("verify: barge from the disk", cold, f"{cold / cat:.2f} × cat")
    os.remove(bundle)


def bench_open(args, folder):
    path = os.path.join(folder, "many")
    layout = Layout(path)
    for image in range(1000):
        layers = [layout.blob(LAYER, b"%d %d" % (image, layer)) for layer in range(98)]
        layout.image(f"registry.example/many/i{image}:v1", layers)
    layout.finish()
    bundle = os.path.join(folder, "many.oci.tar")
    run(BARGE, "pack", f"oci:{path}", "-o", bundle)
    shutil.rmtree(path)
    seconds = median(args.runs, lambda: None, lambda: run(BARGE, "inspect", bundle) and None)
    blobs = len(json.load(open(os.path.join(folder, "many.barge.json")))["blobs"])
    row(f"inspect: a bundle of {blobs:,} blobs", seconds)
    os.remove(bundle)


def inventory(path, month):
    """An inventory of 100,000 blobs in 10,000 images, of which a twentieth differs from month to month."""
    types = [CONFIG, MANIFEST, LAYER]
    repositories = sorted(f"team{image % 50}/app{image}" for image in range(10000))
    place = {name: at for at, name in enumerate(repositories)}
    blobs, images = {}, []

    def blob(text, kind, size, repo):
        row = blobs.setdefault("sha256:" + hashlib.sha256(text.encode()).hexdigest(), [size, kind, set()])
        row[2].add(place[repo])

    for image in range(10000):
        repo = f"team{image % 50}/app{image}"
        version = month if image % 20 == 0 else "jan"
        for layer in range(8):
            # Seven layers of its own, one that a hundred images share.
            text = f"base {image // 100}" if layer == 0 else f"{repo} {layer} {version}"
            blob(text, 2, 1000000 + 7919 * layer + image, repo)
        blob(f"{repo} config {version}", 0, 1500, repo)
        blob(f"{repo} manifest {version}", 1, 1200, repo)
        blob(f"{repo} signature {version}", 1, 700, repo)
        blob(f"{repo} payload {version}", 2, 240, repo)
        root = "sha256:" + hashlib.sha256(f"{repo} manifest {version}".encode()).hexdigest()
        images.append({"name": f"{repo}:v1", "platforms": [{"architecture": "amd64", "os": "linux"}], "root": root})
    rows = [[digest, size, kind, sorted(where)] for digest, (size, kind, where) in sorted(blobs.items())]
    content = {"blobs": rows, "images": sorted(images, key=lambda image: image["name"]), "mediaTypes": types, "repositories": repositories}
    document = {
        "checked": False, "content": content, "failed": [], "formatVersion": "1.0",
        "mediaType": "application/vnd.barge.inventory.v1+json", "scope": "registry", "state": "00000-00000",
        "taken": "2026-01-01T00:00:00Z", "target": "registry.example",
    }
    with open(path, "w") as file:
        json.dump(document, file, separators=(",", ":"), sort_keys=True)
    return len(rows)


def bench_delta(args, folder):
    have, want = os.path.join(folder, "have.json"), os.path.join(folder, "want.json")
    count = inventory(have, "jan")
    inventory(want, "feb")
    length = os.path.getsize(have)
    seconds = median(args.runs, lambda: None, lambda: run(BARGE, "diff", have, want) and None)
    peer = median(args.runs, lambda: None, lambda: [json.load(open(path)) for path in (have, want)] and None)
    row(f"diff: two inventories of {count:,} blobs, {length / count:.0f} bytes a blob", seconds, f"{seconds / peer:.2f} × Python's json reading both")

    # Twenty images on one base; in February the base has one new layer of four and each image one of its three.
    noise = lambda size: gzip.compress(os.urandom(size), 0, mtime=0)
    jan, feb = Layout(os.path.join(folder, "jan")), Layout(os.path.join(folder, "feb"))
    both = lambda content: (jan.blob(LAYER, content), feb.blob(LAYER, content))[0]
    base = [both(noise(8 * MIB)) for _ in range(3)]
    old, new = jan.blob(LAYER, noise(8 * MIB)), feb.blob(LAYER, noise(8 * MIB))
    whole = new["size"]
    for image in range(20):
        own = [both(noise(2 * MIB)) for _ in range(2)]
        changed = feb.blob(LAYER, noise(1 * MIB))
        whole += changed["size"]
        jan.image(f"registry.example/bench/i{image}:v1", base + [old] + own + [jan.blob(LAYER, noise(1 * MIB))])
        feb.image(f"registry.example/bench/i{image}:v1", base + [new] + own + [changed])
    jan.finish()
    feb.finish()
    for month in ("jan", "feb"):
        run(BARGE, "pack", f"oci:{folder}/{month}", "-o", f"{folder}/{month}.oci.tar")
    run(BARGE, "diff", f"{folder}/jan.oci.tar", f"{folder}/feb.oci.tar", "-o", f"{folder}/feb.barge")
    full, delta = (os.path.getsize(os.path.join(folder, name)) for name in ("feb.oci.tar", "feb.barge"))
    print(
        f"| delta: a month of 20 images | {delta / MIB:.1f} MiB | {delta / full:.1%} of the full bundle; "
        f"{delta / whole:.3f} × the layers that are new, which whole-blob increments carry |", flush=True,
    )
    log = os.path.join(folder, "requests.log")
    with open(log, "w") as file:
        target = Registry(os.path.join(folder, "counted"), file)
        run(BARGE, "push", f"{folder}/jan.oci.tar", target.host)
        run(BARGE, "push", f"{folder}/feb.barge", target.host)
        for flags in ([], ["--trust-manifests"]):
            before = len(requests(log))
            run(BARGE, "push", *flags, f"{folder}/feb.barge", target.host)
            made = len(requests(log)) - before
            # 20 repositories with a manifest, a config and seven layers each.
            print(
                f"| delta: pushed again, nothing new{''.join(' ' + flag for flag in flags)} | {made} requests "
                f"| {made / (20 * 9):.2f} × the manifests and blobs of 20 repositories |", flush=True,
            )
        target.stop()


def requests(log):
    with open(log) as file:
        return [line for line in file if '"GET /v2/' in line or '"HEAD /v2/' in line or '"PUT /v2/' in line or '"POST /v2/' in line]


def bench_memory(folder):
    path = os.path.join(folder, "big")
    layout = Layout(path)
    # 4 GiB of zeros, written sparsely: the size is what is measured.
    size, hasher = 4096 * MIB, hashlib.sha256()
    zeros = bytes(MIB)
    for _ in range(4096):
        hasher.update(zeros)
    blob = os.path.join(path, "blobs", "sha256", hasher.hexdigest())
    with open(blob, "wb") as file:
        file.truncate(size)
    layout.image("registry.example/big:v1", [{"mediaType": LAYER, "digest": "sha256:" + hasher.hexdigest(), "size": size}])
    layout.finish()
    bundle = os.path.join(folder, "big.oci.tar")
    source, target = Registry(os.path.join(folder, "big-a")), Registry(os.path.join(folder, "big-b"))

    def measured(what, *command):
        result = subprocess.run(["/usr/bin/time", "-f", "%M", BARGE, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if result.returncode != 0:
            raise SystemExit(result.stderr)
        kib = int(result.stderr.strip().splitlines()[-1])
        print(f"| memory: {what}, a 4 GiB blob | {kib / 1024:.0f} MiB | at most 64 MiB |", flush=True)

    measured("pack", "pack", f"oci:{path}", "-o", bundle)
    measured("verify", "verify", bundle)
    measured("push", "push", bundle, source.host)
    measured("mirror", "mirror", f"{source.host}/big:v1", f"{target.host}/big")
    source.stop()
    target.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", default=None)
    parser.add_argument("--only", default="pack,push,verify,open,delta,memory")
    args = parser.parse_args()
    only = args.only.split(",")
    build()
    folder = tempfile.mkdtemp(prefix="barge-bench-", dir=args.dir)
    try:
        print(f"| {os.cpu_count()} cores, median of {args.runs} | time | |\n| --- | --- | --- |", flush=True)
        path = os.path.join(folder, "layout")
        if {"pack", "push", "verify"} & set(only):
            layout = Layout(path)
            noise = lambda count: layout.blob(LAYER, gzip.compress(os.urandom(count), 0, mtime=0))
            shared = [noise(100 * MIB) for _ in range(4)]
            names, blobs = [], {}
            for image in range(20):
                layers = shared + [noise(60 * MIB), noise(20 * MIB), noise(2 * MIB)]
                repo = f"bench/i{image}"
                layout.image(f"registry.example/{repo}:v1", layers)
                names.append(f"{repo}:v1")
                for layer in layers:
                    blobs.setdefault(layer["digest"], repo)
            layout.finish()
        if "pack" in only:
            registry = Registry(os.path.join(folder, "source"))
            run(BARGE, "push", f"oci:{path}", registry.host)
            bench_pack(args, folder, registry, names, blobs)
            registry.stop()
        if "push" in only:
            bench_push(args, folder, path, names, blobs)
        if "verify" in only:
            bench_verify(args, folder, path)
        shutil.rmtree(path, ignore_errors=True)
        if "open" in only:
            bench_open(args, folder)
        if "delta" in only:
            bench_delta(args, folder)
        if "memory" in only:
            bench_memory(folder)
        if "layers" in only:
            sys.dont_write_bytecode = True
            import layers  # It takes its parts from here, so only now.

            layers.bench_layers(layers.arguments(["--runs", str(args.runs)]), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
