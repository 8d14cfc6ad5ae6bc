//! Tells the compiler where the BPF object is that the agent carries.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=SLUICE_BPF_OBJECT");
    let object = env::var_os("SLUICE_BPF_OBJECT").map_or_else(default_object, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    if object.is_file() {
        println!("cargo::rustc-env=SLUICE_BPF_OBJECT={}", object.display());
    } else {
        println!("cargo::error=no BPF object at {}: run `cargo xtask build` first", object.display());
    }
}

fn default_object() -> PathBuf {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    package.parent().unwrap_or(&package).join("target/bpf/sluice-bpf.o")
}
