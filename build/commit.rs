//! Which commit a package is built from, for its build script.
//!
//! `RINGBACK_COMMIT` says so where the sources are no checkout, as in a container or
//! from a tarball; else git does. Where neither does, nothing fails.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Gives the crate `BUILD_VERSION`, which is the version and the commit or "unknown",
/// and `BUILD_COMMIT` if that is known. (Not `RINGBACK_…`: cargo sets them for what it
/// runs as well, and such a variable is a setting.) `sources` is what goes into the
/// binary, seen from the package's directory. Only changes in there make a commit
/// dirty: cargo watches the same paths, so the answer cannot go stale when something
/// else is edited, such as a README.
pub(crate) fn emit(sources: &[&str]) {
    for path in sources {
        watch(Path::new(path));
    }
    println!("cargo:rerun-if-env-changed=RINGBACK_COMMIT");
    let said = env::var("RINGBACK_COMMIT").ok();
    let commit = said
        .filter(|commit| !commit.is_empty())
        .or_else(|| commit(sources));
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let shown = commit.as_deref().unwrap_or("unknown");
    println!("cargo:rustc-env=BUILD_VERSION={version} ({shown})");
    if let Some(commit) = commit {
        println!("cargo:rustc-env=BUILD_COMMIT={commit}");
    }
}

/// The commit checked out, with `-dirty` if the sources are no longer its.
fn commit(sources: &[&str]) -> Option<String> {
    watch_head();
    // A tarball unpacked inside somebody else's checkout has no commit: the one
    // git would tell knows nothing of this file.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let mut commit = git(&["rev-parse", "HEAD"])?;
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(sources);
    if !git(&status)?.is_empty() {
        commit.push_str("-dirty");
    }
    Some(commit)
}

/// Has this script run again when HEAD moves: to another branch, or with it.
fn watch_head() {
    // The log of HEAD grows whenever HEAD moves, but may be switched off; the
    // table list is what moves where refs are kept in a reftable.
    for name in ["HEAD", "logs/HEAD", "packed-refs", "reftable/tables.list"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            watch(Path::new(&path));
        }
    }
    // Without a branch, HEAD itself names the commit.
    let branch = git(&["symbolic-ref", "-q", "HEAD"]);
    let file = branch.and_then(|name| git(&["rev-parse", "--git-path", &name]));
    if let Some(file) = file {
        // The file of a packed ref comes into being with the next commit, which
        // shows in the directory it will be in.
        let mut path = PathBuf::from(file);
        while !path.exists() && path.pop() {}
        watch(&path);
    }
}

/// Has this script run again when `path` changes. What does not exist would
/// count as changed in every build.
fn watch(path: &Path) {
    if !path.as_os_str().is_empty() && path.exists() {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

/// What git prints, or `None` if it is not there or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        // The script only looks; it must not contend for the index with the
        // user's own git.
        .arg("--no-optional-locks")
        .args(arguments)
        // A build started by a hook would be told about the hook's repository.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
