use super::*;
use crate::{
    setup::machine::{Linker, System},
    toolchain::Compiler,
};

fn compiler(release: &str, llvm: u32) -> Compiler {
    Compiler { release: release.to_owned(), llvm }
}

fn fresh_debian() -> Machine {
    Machine {
        name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        debian: true,
        toolchain: None,
        system: System::default(),
        linker: None,
        cxx: true,
        llvm: false,
    }
}

fn with_toolchain(name: &str, llvm: u32) -> Machine {
    let toolchain = Toolchain { name: name.to_owned(), compiler: compiler("1.96.0", llvm), has_source: true };
    Machine { toolchain: Some(toolchain), ..fresh_debian() }
}

fn packages(names: &[&str]) -> Step {
    Step::Packages(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_fresh_debian_first_gets_the_compiler_its_cargo_and_its_source() {
    assert_eq!(plan(&fresh_debian()), Ok(vec![packages(&["rustc-web", "cargo-web", "rust-web-src"])]));
}

#[test]
fn a_system_compiler_that_is_too_old_is_replaced() {
    let system = System { compiler: Some(compiler("1.63.0", 14)), cargo: true, source: true };
    let machine = Machine { system, ..fresh_debian() };
    assert_eq!(plan(&machine), Ok(vec![packages(&["rustc-web", "cargo-web", "rust-web-src"])]));
}

#[test]
fn a_system_compiler_that_rustup_does_not_know_is_linked() {
    let system = System { compiler: Some(compiler("1.96.0", 22)), cargo: true, source: true };
    assert_eq!(plan(&Machine { system, ..fresh_debian() }), Ok(vec![Step::LinkToolchain]));
}

#[test]
fn the_linker_is_built_with_the_llvm_of_the_compiler_that_was_chosen() {
    for llvm in [22, 23] {
        let steps = plan(&with_toolchain("bpf", llvm));
        assert_eq!(steps, Ok(vec![packages(&[&format!("llvm-{llvm}-dev")]), Step::Linker { llvm }]));
    }
}

#[test]
fn what_an_interrupted_setup_has_installed_is_not_installed_again() {
    let machine = Machine { llvm: true, ..with_toolchain("bpf", 22) };
    assert_eq!(plan(&machine), Ok(vec![Step::Linker { llvm: 22 }]));
}

#[test]
fn a_missing_cxx_compiler_comes_before_the_linker_that_needs_it() {
    let machine = Machine { llvm: true, cxx: false, ..with_toolchain("bpf", 22) };
    assert_eq!(plan(&machine), Ok(vec![packages(&["g++"]), Step::Linker { llvm: 22 }]));
}

#[test]
fn a_linker_of_another_release_or_another_llvm_is_replaced() {
    for (version, llvm) in [("0.9.15", Some(22)), (BPF_LINKER.version, Some(21))] {
        let linker = Some(Linker { version: version.to_owned(), llvm });
        let machine = Machine { linker, llvm: true, ..with_toolchain("nightly-x86_64-unknown-linux-gnu", 22) };
        assert_eq!(plan(&machine), Ok(vec![Step::Linker { llvm: 22 }]));
    }
}

#[test]
fn a_ready_machine_of_any_kind_needs_nothing() {
    for (llvm, debian) in [(Some(22), true), (None, true), (Some(22), false)] {
        let linker = Some(Linker { version: BPF_LINKER.version.to_owned(), llvm });
        assert_eq!(plan(&Machine { linker, debian, ..with_toolchain("bpf", 22) }), Ok(vec![]));
    }
}

#[test]
fn elsewhere_than_on_debian_setup_says_what_to_install_by_hand() {
    let fedora = |machine| Machine { name: "Fedora Linux 42".to_owned(), debian: false, ..machine };
    let nothing = plan(&fedora(fresh_debian())).unwrap_err();
    assert!(nothing.starts_with("this is Fedora Linux 42;"), "{nothing}");
    assert!(nothing.contains("rustup toolchain install nightly --component rust-src"), "{nothing}");
    let compiler_only = plan(&fedora(with_toolchain("nightly", 23))).unwrap_err();
    assert!(compiler_only.contains("--features llvm-23"), "{compiler_only}");
    assert!(!compiler_only.contains("toolchain install"), "{compiler_only}");
}
