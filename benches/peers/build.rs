//! Sets the versions of the crates in [`LIBRARIES`] as, for example, `TOKIO_VERSION`,
//! and the compiler's as `RUSTC_VERSION`.

use std::process::Command;
use std::{env, fs};

const LOCK: &str = "../../Cargo.lock";

/// The crates whose versions the servers print.
const LIBRARIES: [&str; 4] = ["fastwebsockets", "hyper", "tokio", "tokio-tungstenite"];

fn main() {
    println!("cargo:rerun-if-changed={LOCK}");
    let lock = fs::read_to_string(LOCK).unwrap_or_default();
    for library in LIBRARIES {
        let name = library.replace('-', "_").to_uppercase();
        let version = locked(&lock, library).unwrap_or("of an unknown version");
        println!("cargo:rustc-env={name}_VERSION={version}");
    }
    let compiler = compiler().unwrap_or_else(|| "of an unknown version".to_owned());
    println!("cargo:rustc-env=RUSTC_VERSION={compiler}");
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, entry) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    entry.split('"').next()
}

/// The number in `rustc 1.88.0 (…)`.
fn compiler() -> Option<String> {
    let output = Command::new(env::var_os("RUSTC")?)
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
