use super::*;
use crate::{
    setup::machine::{InstalledLinker, SystemRust},
    toolchain::Compiler,
};

fn compiler(release: &str, llvm: u32) -> Compiler {
    Compiler { release: release.to_owned(), llvm }
}

fn fresh_debian() -> MachineFacts {
    MachineFacts {
        name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        debian: true,
        toolchain: None,
        system: SystemRust::default(),
        linker: None,
        cxx: true,
        llvm: false,
    }
}

fn with_toolchain(name: &str, llvm: u32) -> MachineFacts {
    let toolchain = Toolchain { name: name.to_owned(), compiler: compiler("1.96.0", llvm), has_source: true };
    MachineFacts { toolchain: Some(toolchain), ..fresh_debian() }
}

fn packages(names: &[&str]) -> SetupStep {
    SetupStep::Packages(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_fresh_debian_gets_compiler_cargo_and_source_first() {
    assert_eq!(plan(&fresh_debian()), Ok(vec![packages(&["rustc-web", "cargo-web", "rust-web-src"])]));
}

#[test]
fn an_old_system_compiler_is_replaced() {
    let system = SystemRust { compiler: Some(compiler("1.63.0", 14)), cargo: true, source: true };
    let machine = MachineFacts { system, ..fresh_debian() };
    assert_eq!(plan(&machine), Ok(vec![packages(&["rustc-web", "cargo-web", "rust-web-src"])]));
}

#[test]
fn an_unknown_system_compiler_is_linked_into_rustup() {
    let system = SystemRust { compiler: Some(compiler("1.96.0", 22)), cargo: true, source: true };
    assert_eq!(plan(&MachineFacts { system, ..fresh_debian() }), Ok(vec![SetupStep::LinkToolchain]));
}

#[test]
fn the_linker_is_built_with_the_llvm_of_the_chosen_compiler() {
    for llvm in [22, 23] {
        let steps = plan(&with_toolchain("bpf", llvm));
        assert_eq!(steps, Ok(vec![packages(&[&format!("llvm-{llvm}-dev")]), SetupStep::Linker { llvm }]));
    }
}

#[test]
fn setup_continues_where_an_interrupted_one_ended() {
    let machine = MachineFacts { llvm: true, ..with_toolchain("bpf", 22) };
    assert_eq!(plan(&machine), Ok(vec![SetupStep::Linker { llvm: 22 }]));
}

#[test]
fn a_missing_cxx_compiler_is_installed_before_the_linker() {
    let machine = MachineFacts { llvm: true, cxx: false, ..with_toolchain("bpf", 22) };
    assert_eq!(plan(&machine), Ok(vec![packages(&["g++"]), SetupStep::Linker { llvm: 22 }]));
}

#[test]
fn a_linker_of_another_release_or_another_llvm_is_replaced() {
    for (version, llvm) in [("0.9.15", Some(22)), (BPF_LINKER.version, Some(21))] {
        let linker = Some(InstalledLinker { version: version.to_owned(), llvm });
        let machine = MachineFacts { linker, llvm: true, ..with_toolchain("nightly-x86_64-unknown-linux-gnu", 22) };
        assert_eq!(plan(&machine), Ok(vec![SetupStep::Linker { llvm: 22 }]));
    }
}

#[test]
fn a_ready_machine_of_any_kind_needs_nothing() {
    for (llvm, debian) in [(Some(22), true), (None, true), (Some(22), false)] {
        let linker = Some(InstalledLinker { version: BPF_LINKER.version.to_owned(), llvm });
        assert_eq!(plan(&MachineFacts { linker, debian, ..with_toolchain("bpf", 22) }), Ok(vec![]));
    }
}

#[test]
fn on_other_systems_setup_says_what_to_install_by_hand() {
    let fedora = |machine| MachineFacts { name: "Fedora Linux 42".to_owned(), debian: false, ..machine };
    let nothing = plan(&fedora(fresh_debian())).unwrap_err();
    assert!(nothing.starts_with("this is Fedora Linux 42;"), "{nothing}");
    assert!(nothing.contains("rustup toolchain install nightly --component rust-src"), "{nothing}");
    let compiler_only = plan(&fedora(with_toolchain("nightly", 23))).unwrap_err();
    assert!(compiler_only.contains("--features llvm-23"), "{compiler_only}");
    assert!(!compiler_only.contains("toolchain install"), "{compiler_only}");
}
