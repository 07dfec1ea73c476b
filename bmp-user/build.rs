//! Builds the kernel programs and puts their object file into `OUT_DIR`, where `pin::datapath` embeds it.

use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../bmp-ebpf");
    // SAFETY: build scripts run `main` on one thread, before anything reads the environment.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    build_ebpf(
        [Package { name: "bmp-ebpf", root_dir: root, no_default_features: false, features: &["programs"] }],
        Toolchain::Custom("bpf"),
    )
}
