//! Names of entries: which are refused, and the one spelling the others get.

/// The longest name that is taken, in bytes: Linux's `PATH_MAX`. It bounds what an entry may make a reader hold.
pub(super) const MAX_NAME: usize = 4096;

/// Normalises a name: no leading `./`, no `.` or empty components, no trailing `/`.
///
/// # Errors
/// Why the name is refused.
pub(in crate::store) fn normalise(raw: &[u8]) -> Result<String, &'static str> {
    let text = checked(raw)?;
    if text.starts_with('/') {
        return Err("it is absolute");
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("it has a `..` component"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Resolves the target of a symbolic link in the folder of `link`, as a name in the archive; none if it leaves the
/// archive or is no name.
pub(super) fn symbolic_target(link: &str, raw: &[u8]) -> Option<String> {
    let text = checked(raw).ok().filter(|text| !text.starts_with('/'))?;
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Cuts a name for a message and escapes what a terminal would act on.
pub(super) fn printable(raw: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(raw).chars().take(100).collect();
    text.escape_debug().collect()
}

fn checked(raw: &[u8]) -> Result<&str, &'static str> {
    if raw.len() > MAX_NAME {
        return Err("it is longer than 4096 bytes");
    }
    if raw.contains(&0) {
        return Err("it has a zero byte");
    }
    std::str::from_utf8(raw).map_err(|_| "it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (raw, name) in [
            ("a/b", Ok("a/b")),
            ("./a//./b/", Ok("a/b")),
            ("./", Ok("")),
            ("..a/b..", Ok("..a/b..")),
            ("/a", Err("it is absolute")),
            ("a/../b", Err("it has a `..` component")),
            ("..", Err("it has a `..` component")),
            ("a\0b", Err("it has a zero byte")),
        ] {
            assert_eq!(normalise(raw.as_bytes()), name.map(str::to_owned), "{raw:?}");
        }
        assert!(normalise(b"\xff").is_err());
        assert!(normalise(&[b'a'; MAX_NAME]).is_ok());
        assert!(normalise(&[b'a'; MAX_NAME + 1]).is_err());
    }

    #[test]
    fn symbolic_links_stay_inside() {
        for (link, target, name) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/layer.tar", "layer2.tar", Some("a/layer2.tar")),
            ("layer.tar", "../x", None),
            ("a/b/c", "../../../x", None),
            ("a/b", "../../a/b", None),
            ("a", "/etc/passwd", None),
            ("a", "b\0c", None),
        ] {
            assert_eq!(symbolic_target(link, target.as_bytes()).as_deref(), name, "{link} -> {target}");
        }
    }
}
