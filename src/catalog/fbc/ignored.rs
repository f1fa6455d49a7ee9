//! Files that a catalog's `.indexignore` leaves out, with the syntax and the precedence of `.gitignore`.

use std::collections::BTreeMap;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The name of the file that lists what is left out below its folder.
pub(super) const FILE_NAME: &str = ".indexignore";

/// What is left out.
#[derive(Default)]
pub(super) struct Ignored {
    /// Patterns by the folder that they are in; the root is empty.
    folders: BTreeMap<String, Gitignore>,
}

impl Ignored {
    /// Adds the patterns of one file. The error is a line and what is wrong with it.
    pub(super) fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(), (usize, String)> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut builder = GitignoreBuilder::new(absolute(folder));
        for (at, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
            builder.add_line(None, line).map_err(|error| (at + 1, error.to_string()))?;
        }
        let matcher = builder.build().map_err(|error| (1, error.to_string()))?;
        self.folders.insert(folder.to_owned(), matcher);
        Ok(())
    }

    /// Returns whether a file is left out, or a folder that it is in.
    pub(super) fn has(&self, path: &str) -> bool {
        if self.folders.is_empty() {
            return false;
        }
        // What is in a folder that is left out can't be taken in again.
        let folders = path.match_indices('/').map(|(at, _)| (&path[..at], true));
        folders.chain([(path, false)]).any(|(path, is_folder)| self.decides(path, is_folder))
    }

    /// Decides by the patterns nearest to the path that say anything of it.
    fn decides(&self, path: &str, is_folder: bool) -> bool {
        let full = absolute(path);
        let mut folder = path;
        while !folder.is_empty() {
            folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
            let Some(matcher) = self.folders.get(folder) else { continue };
            match matcher.matched(Path::new(&full), is_folder) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}

fn absolute(path: &str) -> String {
    format!("/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_work_as_in_gitignore() {
        let mut ignored = Ignored::default();
        ignored
            .add(".indexignore", b"# notes\n*.md\n/top.txt\ndocs/\n!docs/keep.json\n**/expected_*.json\n")
            .unwrap();
        ignored.add("foo/.indexignore", b"!README.md\nlocal\n").unwrap();
        for path in [
            "README.md",
            "bar/README.md",
            "top.txt",
            "docs/keep.json",
            "a/docs/x",
            "a/expected_x.json",
            "foo/local",
            "foo/sub/local",
        ] {
            assert!(ignored.has(path), "{path}");
        }
        for path in ["foo/README.md", "sub/top.txt", "bar/local", "catalog.json", "docs"] {
            assert!(!ignored.has(path), "{path}");
        }
        assert!(Ignored::default().add("a/.indexignore", b"ok\n{a\n").is_err_and(|(line, _)| line == 2));
    }
}
