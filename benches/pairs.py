#!/usr/bin/env python3
"""Makes the pairs of layers that `benches/layers.py` measures: an old and a new one each, from real packages.

    benches/pairs.py [--dir /tmp/pairs] [--only base,python,jars,gobin]

Every input is pinned in `pairs.lock` by version and sha256, and so are the tar files that come out. For Debian 12;
needs apt, dpkg-deb, pip, skopeo and golang-go, and the network for the packages. What was downloaded is kept in
DIR/inputs, what is there already is not made again. DIR takes about 7 GB.

- base: a Debian root of 200 packages of the point release; 27 replaced by their versions from bookworm-security.
- python: a site-packages folder of 26 wheels, 10 of them upgraded; without compiled `.pyc` files.
- stamped: the same, but each side has the time of its installation on every file, as `pip install` leaves it.
- jars: the jars of 34 of Debian's Java libraries, two of them upgraded: Tomcat by five point releases, and an HTTP
  client by a security update. A jar's classes are deflated: those that changed, 3.8 MB, can't be sent as less.
- gobin: one stripped Go program, compiled before and after a small change (Debian's Go 1.19.8).

For each the tar files, and these packed as Go's compress/gzip does at -6 and -1, as skopeo does (pgzip) and as
Python's zlib does at -6.

Debian's pool drops a version some time after the next one. An old version that is gone is made by code from the new
one, other versions that are gone are replaced by today's; both are told in the output, and the figures then are not
those of the README.
"""
import argparse
import copy
import gzip
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
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
PAIRS = ["base", "python", "stamped", "jars", "gobin"]
ENCODERS = ["go6", "go1", "pgzip", "zlib6"]
MIB = 1024 * 1024

# What the small change adds to benches/go/service.go.in, a service of about 11 MB; without it the marks are empty.
CHANGE = {
    "@FIELD@": '\tRetries int `json:"retries" xml:"retries"`',
    "@FUNCTION@": """
func health(out http.ResponseWriter, in *http.Request) {
	uptime := time.Since(started).Round(time.Second)
	out.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(out).Encode(map[string]any{"uptime": uptime.String(), "remote": in.RemoteAddr}); err != nil {
		log.Printf("health: %v", err)
	}
}

var started = time.Now()
""",
    "@ROUTE@": '\thttp.HandleFunc("/health", health)',
}


def say(text):
    print(text, flush=True)


def run(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command[:6])}: {result.stderr.decode(errors='replace')[-2000:]}")
    return result.stdout


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locked():
    """The rows of the lock file: pair, side (old, new or both), kind, name, version, sha256."""
    with open(os.path.join(HERE, "pairs.lock")) as file:
        return [line.split() for line in file if line.strip() and not line.startswith("#")]


class Inputs:
    """The folder of downloaded packages, found by their sha256 or, where a version is gone, by name."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.known = {}
        self.look()

    def look(self):
        """Takes in what is in the folder and not yet known."""
        names = set(self.known.values())
        for name in sorted(os.listdir(self.folder)):
            if name not in names:
                self.known[sha256(os.path.join(self.folder, name))] = name

    def path(self, digest):
        return os.path.join(self.folder, self.known[digest]) if digest in self.known else None

    def fetch(self, rows):
        """Downloads what is missing of `rows`: all at once, and what failed then one by one."""
        missing = [row for row in rows if row[5] not in self.known]
        debs = [row for row in missing if row[2] == "deb"]
        for batch in [debs] + [[row] for row in debs]:
            batch = [f"{row[3]}={row[4]}" for row in batch if row[5] not in self.known]
            if batch:
                command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *batch]
                subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.look()
        for side in ("old", "new"):
            wheels = [row for row in missing if row[2] == "wheel" and row[1] in (side, "both")]
            if wheels:
                with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
                    file.writelines(f"{row[3]}=={row[4]} --hash=sha256:{row[5]}\n" for row in wheels)
                    file.flush()
                    run(
                        "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--platform=manylinux2014_x86_64",
                        "--python-version=3.11", "--implementation=cp", "--require-hashes", "-d", self.folder, "-r", file.name,
                    )
                self.look()

    def today(self, name):
        """The version of a package that Debian has today, for one whose pinned version is gone."""
        with tempfile.TemporaryDirectory() as folder:
            run("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name, cwd=folder)
            file, = os.listdir(folder)
            shutil.move(os.path.join(folder, file), os.path.join(self.folder, file))
            self.look()
            return os.path.join(self.folder, file)

    def side(self, rows, side):
        """The packages of one side: (row, path, whether to make an older version from it)."""
        chosen = []
        for row in rows:
            if row[1] not in (side, "both"):
                continue
            path = self.path(row[5])
            if path or row[2] != "deb":
                chosen.append((row, path, False))
                continue
            new = next((self.path(other[5]) for other in rows if other[1] == "new" and other[3] == row[3]), None)
            made = row[1] == "old"
            path = (new if made else None) or self.today(row[3])
            say(f"{row[0]}: {row[3]} {row[4]} is gone; {'made by code from' if made else 'instead'} {os.path.basename(path)}")
            chosen.append((row, path, made))
        return chosen


def older(name, content):
    """Another version of a file, by code: some bytes in each 16 KiB differ, and one place is 48 bytes shorter."""
    if len(content) < 256:
        return content
    seeded = random.Random(name)
    changed = bytearray(content)
    for start in range(0, len(changed), 16384):
        at = seeded.randrange(start, min(start + 16384, len(changed)))
        changed[at:at + 3] = bytes((byte + 1) % 256 for byte in changed[at:at + 3])
    at = seeded.randrange(64, len(changed) - 128)
    del changed[at:at + 48]
    return bytes(changed)


class Tree:
    """The members of a layer by path, written in the order of the paths."""

    def __init__(self):
        self.members = {}
        self.archives = []

    def add(self, path, info, source):
        """`source` is the content, or an open tar file and the member in it to read it from."""
        info.name = path
        info.uname = info.gname = ""
        info.mtime = int(info.mtime)
        info.pax_headers = {}
        self.members[path] = (info, source)

    def file(self, path, content, mtime, mode=0o644):
        info = tarfile.TarInfo()
        info.size, info.mtime, info.mode = len(content), mtime, mode
        self.add(path, info, content)

    def write(self, path):
        """Writes the tar file, with the folders that no package named."""
        for name in list(self.members):
            while name := os.path.dirname(name):
                if name not in self.members:
                    info = tarfile.TarInfo()
                    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, self.members_time()
                    self.add(name, info, b"")
        with tarfile.open(path + ".part", "w", format=tarfile.PAX_FORMAT) as out:
            for name in sorted(self.members):
                info, source = self.members[name]
                if not info.isreg():
                    out.addfile(info)
                elif isinstance(source, bytes):
                    out.addfile(info, io.BytesIO(source))
                else:
                    out.addfile(info, source[0].extractfile(source[1]))
        for archive in self.archives:
            archive.close()
        os.rename(path + ".part", path)

    def members_time(self):
        return max(info.mtime for info, _ in self.members.values())


def merged(name):
    """The path with Debian's merged /usr: bin, sbin and lib* at the root are links there."""
    name = name.removeprefix("./").rstrip("/")
    first = name.partition("/")[0]
    return "usr/" + name if first in ("bin", "sbin", "lib", "lib64") else name


def unpack(tree, path, make_older, folder, wanted):
    """Adds the files of a .deb; returns its control file and the other control members."""
    spool = tempfile.NamedTemporaryFile(dir=folder)
    subprocess.run(["dpkg-deb", "--fsys-tarfile", path], stdout=spool, check=True)
    spool.seek(0)
    archive = tarfile.open(fileobj=spool)
    tree.archives.append(archive)
    listed = []
    for info in archive:
        name = merged(info.name)
        listed.append("/" + name if name != "." else "/.")
        if name in ("", ".") or not wanted(name):
            continue
        source = (archive, copy.copy(info))
        if info.islnk():
            info.linkname = merged(info.linkname)
        if make_older and info.isreg():
            source = older(name, archive.extractfile(info).read())
            info.size = len(source)
        tree.add(name, info, source)
    with tarfile.open(fileobj=io.BytesIO(run("dpkg-deb", "--ctrl-tarfile", path))) as control:
        members = {info.name[2:]: (int(info.mtime), info.mode, control.extractfile(info).read()) for info in control if info.isreg()}
    _, _, text = members.pop("control")
    members["list"] = (max(member[0] for member in members.values()) if members else 0, 0o644, "".join(f"{name}\n" for name in listed).encode())
    return text.decode(), members


def base(side, folder):
    """A root as dpkg leaves it: the files, the links of the merged /usr, the lists of what is installed."""
    tree = Tree()
    for name in ("bin", "sbin", "lib", "lib64"):
        info = tarfile.TarInfo()
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, "usr/" + name, 0o777
        tree.add(name, info, b"")
    status = []
    for row, path, make_older in side:
        control, members = unpack(tree, path, make_older, folder, lambda name: True)
        first, rest = control.rstrip("\n").split("\n", 1)
        status.append(f"{first}\nStatus: install ok installed\n{rest}\n")
        shared = "Multi-Arch: same" in control
        arch = next(line[14:] for line in control.splitlines() if line.startswith("Architecture: "))
        for member, (mtime, mode, content) in members.items():
            tree.file(f"var/lib/dpkg/info/{row[3]}{':' + arch if shared else ''}.{member}", content, mtime, mode)
    tree.file("var/lib/dpkg/status", "\n".join(status).encode(), tree.members_time())
    return tree


def jars(side, folder):
    tree = Tree()
    for _, path, make_older in side:
        unpack(tree, path, make_older, folder, lambda name: name.startswith("usr/share/java/"))
    return tree


def wheels(side, stamp):
    """A site-packages folder; the times are those in the wheels or, with `stamp`, all that one."""
    tree = Tree()
    site = "usr/local/lib/python3.11/site-packages/"
    for _, path, _ in side:
        with zipfile.ZipFile(path) as wheel:
            for entry in wheel.infolist():
                if entry.is_dir():
                    continue
                mtime = stamp or max(0, int(time.mktime(entry.date_time + (0, 0, 0)) - time.timezone))
                mode = 0o755 if entry.external_attr >> 16 & 0o111 else 0o644
                tree.file(site + entry.filename, wheel.read(entry), mtime, mode)
    return tree


def gobin(changed, folder):
    with open(os.path.join(HERE, "go", "service.go.in")) as file:
        source = file.read()
    for mark, text in CHANGE.items():
        source = source.replace(mark, text if changed else "")
    with open(os.path.join(folder, "main.go"), "w") as file:
        file.write(source)
    program = go(folder)
    tree = Tree()
    tree.file("usr/local/bin/service", program, 1700000000 + changed * 3600, 0o755)
    return tree


def go(folder):
    """Compiles main.go in `folder`, stripped and without a trace of where that is; gives the program's bytes."""
    env = dict(os.environ, GOCACHE=os.path.join(folder, "cache"), GO111MODULE="off", CGO_ENABLED="0", GOFLAGS="", GOAMD64="v1")
    run("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", "program", "main.go", cwd=folder, env=env)
    with open(os.path.join(folder, "program"), "rb") as file:
        return file.read()


def make(pair, side, rows, inputs, path, folder):
    if pair == "gobin":
        tree = gobin(side == "new", folder)
    else:
        packages = inputs.side(rows, side)
        stamp = {"old": 1717200000, "new": 1720051200}[side] if pair == "stamped" else None
        tree = base(packages, folder) if pair == "base" else jars(packages, folder) if pair == "jars" else wheels(packages, stamp)
    tree.write(path)


def pgzip(tar, out, folder):
    """What skopeo (so podman and buildah) make of an uncompressed layer: klauspost's pgzip in blocks of 1 MiB."""
    plain, packed = os.path.join(folder, "plain"), os.path.join(folder, "packed")
    os.makedirs(os.path.join(plain, "blobs", "sha256"))

    def blob(kind, content):
        digest = hashlib.sha256(content).hexdigest()
        with open(os.path.join(plain, "blobs", "sha256", digest), "wb") as file:
            file.write(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}.v1+json", "digest": "sha256:" + digest, "size": len(content)}

    digest = sha256(tar)
    os.symlink(os.path.abspath(tar), os.path.join(plain, "blobs", "sha256", digest))
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + digest, "size": os.path.getsize(tar)}
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    manifest = {"schemaVersion": 2, "config": blob("config", json.dumps(config).encode()), "layers": [layer]}
    manifest = blob("manifest", json.dumps(dict(manifest, mediaType="application/vnd.oci.image.manifest.v1+json")).encode())
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    with open(os.path.join(plain, "index.json"), "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [manifest]}, file)
    with open(os.path.join(plain, "oci-layout"), "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    command = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-compress", "--dest-compress-format", "gzip"]
    run(*command, f"oci:{plain}:x", f"oci:{packed}:x")
    blobs = os.path.join(packed, "blobs", "sha256")
    biggest = max(os.listdir(blobs), key=lambda name: os.path.getsize(os.path.join(blobs, name)))
    shutil.move(os.path.join(blobs, biggest), out)


def encode(encoder, tar, out, folder, program):
    if encoder == "pgzip":
        pgzip(tar, out, folder)
    elif encoder == "zlib6":
        with open(tar, "rb") as source, open(out, "wb") as file:
            with gzip.GzipFile("", "wb", 6, file, 0) as packed:
                shutil.copyfileobj(source, packed, MIB)
    else:
        with open(tar, "rb") as source, open(out, "wb") as file:
            subprocess.run([program, encoder.removeprefix("go")], stdin=source, stdout=file, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/tmp/pairs")
    parser.add_argument("--only", default=",".join(PAIRS))
    args = parser.parse_args()
    os.environ["TZ"] = "UTC"
    time.tzset()
    rows = locked()
    digests = {(row[0], row[1]): row[5] for row in rows if row[2] == "tar"}
    inputs = Inputs(os.path.join(args.dir, "inputs"))
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        shutil.copy(os.path.join(HERE, "go", "encoder.go"), os.path.join(folder, "main.go"))
        go(folder)
        program = os.path.join(folder, "encoder")
        os.rename(os.path.join(folder, "program"), program)
        for pair in args.only.split(","):
            if pair not in PAIRS:
                raise SystemExit(f"no pair `{pair}`; there are {', '.join(PAIRS)}")
            mine = [row for row in rows if row[0] == ("python" if pair == "stamped" else pair) and row[2] != "tar"]
            inputs.fetch(mine)
            os.makedirs(os.path.join(args.dir, pair), exist_ok=True)
            for side in ("old", "new"):
                tar = os.path.join(args.dir, pair, side + ".tar")
                if not os.path.exists(tar):
                    make(pair, side, mine, inputs, tar, folder)
                digest = sha256(tar)
                pinned = digests.get((pair, side))
                note = "as pinned" if digest == pinned else "NOT the pinned one, figures will differ" if pinned else "not pinned"
                say(f"{pair} {side}.tar {os.path.getsize(tar) / MIB:.1f} MiB {digest} {note}")
                for encoder in ENCODERS:
                    out = os.path.join(args.dir, pair, f"{side}.{encoder}.gz")
                    if not os.path.exists(out):
                        with tempfile.TemporaryDirectory(dir=args.dir) as room:
                            encode(encoder, tar, out + ".part", room, program)
                        os.rename(out + ".part", out)
                    say(f"{pair} {side}.{encoder}.gz {os.path.getsize(out) / MIB:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
