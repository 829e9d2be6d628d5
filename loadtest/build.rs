//! Tells the crate which commit it is built from, as `BUILD_COMMIT`.

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
