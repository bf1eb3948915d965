//! Where the programs under test lie.

use std::path::{Path, PathBuf};

/// The path of a program of this workspace, which the build puts next to the test executables' folder.
///
/// # Panics
/// If it was not built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test executable");
    // target/debug/deps/system-… for tests, target/debug/… for programs.
    let folders = test.ancestors().skip(1).take(2);
    for folder in folders {
        let path = folder.join(name);
        if path.is_file() {
            return path;
        }
    }
    panic!(
        "the program {name} is not built next to {}; run the tests with `make test`, which builds all programs first",
        test.parent().unwrap_or(Path::new("")).display()
    );
}

/// The path of an installed tool.
///
/// # Panics
/// If no folder of PATH has it.
pub fn in_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not in PATH; run the tests with `make test`, which installs it"))
}
