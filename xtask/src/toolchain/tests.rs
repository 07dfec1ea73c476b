use super::*;

fn toolchain(name: &str, release: &str, llvm: u32, has_source: bool) -> Toolchain {
    Toolchain { name: name.to_owned(), compiler: Compiler { release: release.to_owned(), llvm }, has_source }
}

fn name_of(choice: anyhow::Result<Option<&Toolchain>>) -> Option<String> {
    choice.unwrap().map(|toolchain| toolchain.name.clone())
}

const HOST: &str = "x86_64-unknown-linux-gnu";

#[test]
fn a_nightly_with_its_source_is_preferred_to_the_linked_compiler() {
    let nightly = format!("nightly-{HOST}");
    let installed = [
        toolchain(&format!("stable-{HOST}"), "1.95.0", 22, true),
        toolchain(&format!("nightly-2026-05-01-{HOST}"), "1.97.0-nightly", 22, true),
        toolchain(&nightly, "1.97.0-nightly", 22, true),
        toolchain(LINKED, "1.96.0", 22, true),
    ];
    assert_eq!(name_of(pick(None, &installed)), Some(nightly));
}

#[test]
fn a_nightly_without_source_or_of_an_unfit_version_is_passed_over() {
    for nightly in [
        toolchain("nightly", "1.97.0-nightly", 22, false),
        toolchain("nightly", "1.90.0-nightly", 22, true),
        toolchain("nightly", "1.140.0-nightly", 40, true),
    ] {
        assert_eq!(name_of(pick(None, &[nightly, toolchain(LINKED, "1.96.0", 22, true)])), Some(LINKED.to_owned()));
    }
}

#[test]
fn a_stable_compiler_is_not_chosen_by_itself() {
    assert_eq!(name_of(pick(None, &[toolchain("stable", "1.96.0", 22, true)])), None);
}

#[test]
fn the_override_wins_and_may_leave_out_the_host() {
    let nightly = format!("nightly-{HOST}");
    let installed = [toolchain(&nightly, "1.97.0-nightly", 22, true), toolchain(LINKED, "1.96.0", 22, true)];
    assert_eq!(name_of(pick(Some(LINKED), &installed)), Some(LINKED.to_owned()));
    assert_eq!(name_of(pick(Some("nightly"), &installed)), Some(nightly));
}

#[test]
fn an_unsuitable_override_is_refused_with_the_reason() {
    let installed = [toolchain("nightly", "1.97.0-nightly", 22, false)];
    let refusal = |name| pick(Some(name), &installed).unwrap_err().to_string();
    assert!(refusal("nightly").contains("without the source"), "{}", refusal("nightly"));
    assert!(refusal("mine").contains("no toolchain of this name"), "{}", refusal("mine"));
}

#[test]
fn the_version_of_a_compiler_is_read_from_its_output() {
    let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
    assert_eq!(Compiler::parse(text), Some(Compiler { release: "1.96.0".to_owned(), llvm: 22 }));
    assert_eq!(Compiler::parse("no compiler"), None);
}

#[test]
fn releases_compare_by_number() {
    let recent = |release: &str| Compiler { release: release.to_owned(), llvm: 22 }.is_recent();
    assert!(recent(OLDEST) && recent("1.100.0") && recent("2.0.0-nightly"));
    assert!(!recent("1.9.0") && !recent("1.94.1") && !recent("nonsense"));
}

#[test]
fn rustup_lists_are_read_with_and_without_remarks() {
    let bpf = ("bpf", PathBuf::from("/usr"));
    assert_eq!(name_and_root("bpf /usr"), Some(bpf.clone()));
    assert_eq!(name_and_root("bpf\t/usr"), Some(bpf));
    let stable = ("stable", PathBuf::from("/root/.rustup/toolchains/my stable"));
    assert_eq!(name_and_root("stable (active, default) /root/.rustup/toolchains/my stable"), Some(stable));
    assert_eq!(name_and_root("no installed toolchains"), None);
}

#[test]
fn the_programs_never_compile_incrementally() {
    let command = toolchain(LINKED, "1.96.0", 22, true).programs("build", "x86_64", target(false), Path::new("t"));
    let incremental = command.get_envs().find(|(name, _)| *name == "CARGO_INCREMENTAL");
    assert_eq!(incremental.and_then(|(_, value)| value?.to_str()), Some("0"));
}

#[test]
fn what_is_compiled_names_no_folder_of_this_host() {
    let flags = without_folders();
    let repository = crate::process::root();
    assert!(flags.contains(&format!("--remap-path-prefix={}=/bmpd", repository.display())), "{flags:?}");
    let command = toolchain(LINKED, "1.96.0", 22, true).programs("build", "x86_64", target(false), Path::new("t"));
    let encoded = command.get_envs().find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS").and_then(|(_, value)| value);
    let encoded = encoded.and_then(|value| value.to_str()).unwrap_or_default();
    assert!(flags.iter().all(|flag| encoded.split('\x1f').any(|part| part == flag)), "{encoded}");
}
