//! Sets `BUILD_COMMIT` to the commit that the crate is built from.

#[path = "../build/commit.rs"]
mod commit;

fn main() {
    commit::emit(&[
        "build.rs",
        "Cargo.toml",
        "src",
        "../build",
        "../Cargo.toml",
        "../Cargo.lock",
        "../host",
        "../src",
    ]);
}
