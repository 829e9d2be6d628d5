//! Tells the crate which commit it is built from, as `BUILD_COMMIT`.

#[path = "build/commit.rs"]
mod commit;

fn main() {
    commit::emit(&[
        "build.rs",
        "build",
        "Cargo.toml",
        "Cargo.lock",
        "host",
        "src",
    ]);
}
