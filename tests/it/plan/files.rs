//! Plans of what files ask for, and plans as files.

use std::fs;

use super::{made, shop};
use crate::support::barge::{Outcome, barge};

fn plan(folder: &std::path::Path, to: &str, format: &str, more: &[&str]) -> Outcome {
    barge(["plan", "--to", to, "--format", format]).args(more).dir(folder).run()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn a_mapping_that_was_written_is_read_as_the_same_set() {
    let (stock, from, images) = shop();
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let first = plan(folder.path(), "reg.test/mirror", "mapping", &images).success().stdout;
    fs::write(folder.path().join("images-mapping.txt"), &first).unwrap();
    // Names are as the file's destinations are, whatever its host.
    let again = plan(folder.path(), "reg.test", "mapping", &["-f", "images-mapping.txt"]).success();
    assert_eq!(lines(&again.stdout), lines(&first), "{again}");
    assert_eq!(lines(&first).len(), 5);
    let other = plan(folder.path(), "other.test/x", "mapping", &["-f", "images-mapping.txt"]).success();
    let moved: Vec<String> =
        lines(&first).iter().map(|line| line.replace("=reg.test/", "=other.test/x/")).collect();
    assert_eq!(lines(&other.stdout), moved, "{other}");
    // A pack of the file has the same images under the same tags.
    barge(["pack", "-f", "images-mapping.txt", "-o", "all.oci.tar"]).dir(folder.path()).run().success();
    let packed = barge(["inspect", "all.oci.tar", "--json"]).dir(folder.path()).run().success();
    for name in [
        "reg.test/mirror/team/app:v1".to_owned(),
        "reg.test/mirror/team/tool:v2".to_owned(),
        format!("reg.test/mirror/team/db:{}", made(&stock.pinned[0])),
        format!("reg.test/mirror/team/db:{}", made(&stock.pinned[1])),
    ] {
        assert!(packed.stdout.contains(&name), "{name} in {packed}");
    }
    assert!(from.writes().is_empty(), "{}", from.transcript());
}

#[test]
fn what_files_say_counts() {
    let (stock, from, _) = shop();
    let folder = tempfile::tempdir().unwrap();
    let host = from.host();
    let write = |more: &str, first: &str| {
        let text = format!(
            "apiVersion: barge/v1\n{more}images:\n- {{ image: \"{host}/team/app:v1\", platforms: [{first}] }}\n\
             - {{ image: \"{host}/team/app@{}\", name: reg.test/all/app:v1 }}\n\
             - {{ image: \"{host}/team/tool:v2\", name: reg.test/renamed/tool:2 }}\n",
            stock.app.digest
        );
        fs::write(folder.path().join("barge.yaml"), text).unwrap();
    };
    let go = |format: &str, more: &[&str]| {
        plan(folder.path(), "reg.test", format, &[&["-f", "barge.yaml"], more].concat())
    };
    write("", "linux/s390x");
    go("mapping", &[])
        .success()
        .stdout_has("=reg.test/renamed/tool:2\n")
        .stdout_has("=reg.test/all/app:v1\n");
    write("defaults: { attachments: none, platforms: [linux/amd64] }\n", "linux/amd64");
    let bare = go("mapping", &[]).success().stdout_has("--filter-by-os='^(linux/amd64|unknown/unknown)$'");
    assert!(!bare.stdout.contains(".sig="), "{bare}");
    write("defaults: { sparse: single, platforms: [linux/amd64] }\n", "linux/amd64");
    let single = format!("{host}/team/app@{}=reg.test/team/app:v1\n", stock.amd64.digest);
    go("mapping", &[]).success().stdout_has(&single);
    go("mapping", &["--sparse", "require"]).success().stdout_has(&stock.app.digest.to_string());
    write("defaults: { sparse: rewrite }\n", "linux/amd64");
    go("mapping", &[]).code(2).stderr_has("no other tool rewrites an index").stderr_has("--sparse require");
    // What is pulled through a mirror is planned by its own name, and said.
    let mirrored = format!(
        "apiVersion: barge/v1\nregistries:\n- {{ prefix: registry.example, mirrors: [\"{host}\"] }}\n\
         images:\n- registry.example/team/tool:v2\n"
    );
    fs::write(folder.path().join("barge.yaml"), mirrored).unwrap();
    let original = format!("registry.example/team/tool@{}=reg.test/team/tool:v2\n", stock.tool.digest);
    let document = go("json", &[]).success().stderr_has("read through mirrors here").json();
    assert!(document["notes"].to_string().contains("read through mirrors here"), "{document}");
    go("mapping", &[])
        .success()
        .stdout_has(&original)
        .stderr_has("has to know of them itself: registry.example");
    // Collisions name the lines.
    let clash = format!("{host}/team/app:v1=one.test/x:1\n{host}/team/tool:v2=two.test/x:1\n");
    fs::write(folder.path().join("clash.txt"), clash).unwrap();
    let refused = plan(folder.path(), "reg.test", "mapping", &["-f", "clash.txt"]).code(3);
    refused.stderr_has("reg.test/x:1").stderr_has("clash.txt:1").stderr_has("clash.txt:2");
}

#[test]
fn one_filter_for_different_platforms_is_told() {
    let (mut stock, from, _) = shop();
    let index = stock.content.index(&[stock.amd64.clone(), stock.s390x.clone()]);
    crate::support::peers::push_content(from.host(), "team/both", &stock.content, &index, Some("v1"));
    let folder = tempfile::tempdir().unwrap();
    let other = stock.content.image("linux/arm64", &[crate::support::images::layer(8, 200)]);
    let third = stock.content.image("linux/s390x", &[crate::support::images::layer(9, 200)]);
    let index = stock.content.index(&[other, third]);
    crate::support::peers::push_content(from.host(), "team/other", &stock.content, &index, Some("v1"));
    let host = from.host();
    let text = format!(
        "apiVersion: barge/v1\nimages:\n- {{ image: \"{host}/team/both:v1\", platforms: [linux/amd64] }}\n\
         - {{ image: \"{host}/team/other:v1\", platforms: [linux/s390x] }}\n"
    );
    fs::write(folder.path().join("barge.yaml"), text).unwrap();
    let done = plan(folder.path(), "reg.test", "mapping", &["-f", "barge.yaml"]).success();
    let done = done.stdout_has("--filter-by-os='^(linux/amd64|linux/s390x)$'");
    done.stderr_has("gets more than was asked for").stderr_has("team/both:v1: linux/s390x");
    // skopeo copies child by child and needs no filter.
    let script = plan(folder.path(), "reg.test", "skopeo", &["-f", "barge.yaml"]).success();
    assert_eq!(script.stdout.matches("skopeo copy --all").count(), 2, "{script}");
    assert_eq!(script.stdout.matches("--multi-arch=index-only").count(), 2, "{script}");
}

#[test]
fn what_barge_makes_itself_is_told() {
    let (stock, from, _) = shop();
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("web");
    fs::create_dir(&chart).unwrap();
    let text = format!(
        "apiVersion: v2\nname: web\nversion: 1.0.0\nannotations:\n  artifacthub.io/images: |\n    - name: tool\n      \
         image: {}/team/tool:v2\n",
        from.host()
    );
    fs::write(chart.join("Chart.yaml"), text).unwrap();
    let go = |format: &str| plan(folder.path(), "reg.test", format, &["--chart", "./web"]);
    let tool = format!("{}/team/tool@{}=reg.test/team/tool:v2\n", from.host(), stock.tool.digest);
    let mapping = go("mapping").code(1).stdout_has(&tool);
    let mapping = mapping.stderr_has("`barge push` or `barge mirror` carries these").stderr_has("web:1.0.0");
    assert_eq!(lines(&mapping.stdout).len(), 1, "{mapping}");
    let script = go("skopeo").code(1).stderr_has("barge makes its content").stderr_has("web:1.0.0");
    assert_eq!(script.stdout.matches("skopeo copy").count(), 1, "{script}");
    let document = go("json").success().json();
    let made = document["images"].as_array().unwrap().iter().find(|image| image["part"] == "chart").unwrap();
    assert_eq!(made["source"], serde_json::json!({ "kind": "made" }), "{document}");
}

#[test]
fn how_sources_are_reached_is_handed_on_or_told() {
    let (_, from, images) = shop();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my auth.json"), "{}").unwrap();
    fs::create_dir(folder.path().join("certs")).unwrap();
    let files = ["--authfile", "my auth.json", "--cert-dir", "certs", "--creds", "x.test=me:s3cret"];
    let go = |format: &str, more: &[&str]| {
        let args = [&[images[1].as_str()][..], &files, more].concat();
        plan(folder.path(), "reg.test", format, &args).success().never_says("s3cret")
    };
    let own = "was given to barge; the other tool needs its own";
    let mapping = go("mapping", &[]).stdout_has(" -a 'my auth.json'\n").stderr_has(own);
    assert!(mapping.stderr.contains("--cert-dir") && !mapping.stderr.contains("--authfile"), "{mapping}");
    let line = format!("--src-authfile 'my auth.json' --src-cert-dir certs docker://{}", from.host());
    let script = go("skopeo", &[]).stdout_has(&line).stderr_has(own).stderr_has("--creds");
    assert!(!script.stderr.contains("--cert-dir"), "{script}");
    let back = go("skopeo", &["--leg", "from-filesystem"]);
    assert!(!back.stdout.contains("authfile"), "{back}");
    let regsync = go("regsync", &[]).stderr_has(own).stderr_has("--authfile");
    assert!(regsync.stderr.contains("--cert-dir"), "{regsync}");
    // One flag of `oc` is for all hosts; with two legs each has its own.
    mapping.stderr_has("is spoken to without checking its certificate too").stderr_has("--leg to-filesystem");
    go("mapping", &["--leg", "to-filesystem"]).stdout_has(" --insecure").never_says("its certificate too");
    let text = format!(
        "apiVersion: barge/v1\nregistries:\n- {{ prefix: \"{}\", authFile: my auth.json }}\nimages: []\n",
        from.host()
    );
    fs::write(folder.path().join("barge.yaml"), text).unwrap();
    let told = go("mapping", &["-f", "barge.yaml"]);
    told.stderr_has("is reached with credentials or certificates that a file names");
}

#[test]
fn signatures_alone_are_what_regsync_is_told() {
    let (_, from, _) = shop();
    let folder = tempfile::tempdir().unwrap();
    let host = from.host();
    for (word, tags, referrers) in [("all", 1, 1), ("signatures", 1, 0), ("none", 0, 0)] {
        let text = format!(
            "apiVersion: barge/v1\ndefaults: {{ attachments: {word} }}\nimages: [\"{host}/team/app:v1\"]\n"
        );
        fs::write(folder.path().join("barge.yaml"), text).unwrap();
        let done = plan(folder.path(), "reg.test", "regsync", &["-f", "barge.yaml"]).success();
        assert_eq!(done.stdout.matches("digestTags: true").count(), tags, "{word}: {done}");
        assert_eq!(done.stdout.matches("referrers: true").count(), referrers, "{word}: {done}");
    }
}

#[test]
fn a_password_in_a_name_is_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "me:s3cret@127.0.0.1:9";
    let image = format!("{secret}/team/app:v1");
    fs::write(folder.path().join("a.oci.tar"), "").unwrap();
    for args in [
        vec!["plan", "alpine:3", "--to", secret, "--format", "json"],
        vec!["plan", &image, "--to", "reg.test", "--format", "json"],
        vec!["resources", "a.oci.tar", "--registry", secret, "-o", "out"],
        vec!["push", "a.oci.tar", secret],
        vec!["mirror", "alpine:3", &image],
        vec!["mirror", &image, "reg.test"],
        vec!["mirror", "alpine:3", "alpine:2", secret],
        vec!["inventory", secret, "-o", "i.json"],
        vec!["inventory", &image, "-o", "i.json"],
        vec!["doctor", secret],
        vec!["pack", &image, "-o", "b.oci.tar"],
    ] {
        for json in [false, true] {
            let mut all = args.clone();
            all.extend(json.then_some("--json"));
            let told = barge(&all).dir(folder.path()).run().code(2).never_says("s3cret");
            let text = format!("{}{}", told.stdout, told.stderr);
            assert!(text.contains("a user and a password are no part of a name"), "{told}");
            assert!(text.contains("--authfile FILE or --creds USER:PASSWORD"), "{told}");
        }
    }
}
