//! What this machine lets the harness do. Kinds of faults that need more are left out, and the harness says so.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use tasklease_postgres::find_binaries;

use crate::{clock, database::copier, fault_kind::FaultKind, pooler};

/// Set in the environment of a harness that has prepared itself; the folder of the programs that know the clock.
const PREPARED: &str = "TASKLEASE_CHAOS_PREPARED";

/// Where the harness and [`tasklease_postgres`] look for Postgres before all other places.
const POSTGRES: &str = "TASKLEASE_PG_BIN";

/// Mounts of its own for a process, which are gone when it is: as root, and as anybody else.
const OWN_MOUNTS: [&[&str]; 2] = [
    &["--mount", "--propagation", "private"],
    &[
        "--user",
        "--map-current-user",
        "--keep-caps",
        "--mount",
        "--propagation",
        "private",
    ],
];

/// What a kind of fault needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// To mount a file system.
    Mounts,
    /// The library that shows programs another time.
    Clocks,
    /// The program that copies a running Postgres.
    Copies,
    /// PgBouncer.
    Pooler,
}

/// What the machine has of what faults need.
#[derive(Debug, Default)]
pub struct Abilities {
    missing: BTreeMap<Need, String>,
    mounts: &'static [&'static str],
    clock: Option<PathBuf>,
}

impl Abilities {
    /// Finds out.
    pub fn of_this_machine() -> Self {
        let mut own = Self::default();
        match OWN_MOUNTS.iter().find(|flags| can_mount(flags)) {
            Some(flags) => own.mounts = flags,
            None => {
                let text = "this user may not mount a file system; root may";
                own.missing.insert(Need::Mounts, text.to_owned());
            }
        }
        own.clock = clock::library();
        if own.clock.is_none() {
            let text = "libfaketime is not installed; `scripts/setup faketime` installs it";
            own.missing.insert(Need::Clocks, text.to_owned());
        }
        if find_binaries().ok().and_then(|found| copier(&found)).is_none() {
            let text = "there is no pg_basebackup beside the Postgres server";
            own.missing.insert(Need::Copies, text.to_owned());
        }
        if pooler::program().is_none() {
            own.missing
                .insert(Need::Pooler, "PgBouncer is not installed".to_owned());
        }
        own
    }

    /// The kinds that can be played here, and those that cannot with the reason.
    pub fn sort(&self, kinds: &[FaultKind]) -> (Vec<FaultKind>, Vec<(FaultKind, String)>) {
        let (mut usable, mut left_out) = (Vec::new(), Vec::new());
        for &kind in kinds {
            match kind.need().and_then(|need| self.missing.get(&need)) {
                Some(reason) => left_out.push((kind, reason.clone())),
                None => usable.push(kind),
            }
        }
        (usable, left_out)
    }

    /// Prepares this process for what the kinds need: mounts that go with it, and a Postgres whose clock can be set.
    /// Both must be so before it begins, so it starts itself again in its own place.
    ///
    /// # Errors
    /// The programs cannot be written or started.
    pub fn prepare(&self, kinds: &[FaultKind]) -> anyhow::Result<Preparation> {
        if let Some(folder) = std::env::var_os(PREPARED) {
            return Ok(Preparation {
                folder: Some(PathBuf::from(folder)).filter(|folder| !folder.as_os_str().is_empty()),
            });
        }
        let needs = |need| kinds.iter().any(|kind| kind.need() == Some(need));
        let folder = match &self.clock {
            Some(library) if needs(Need::Clocks) => Some(programs_with_clock(library)?),
            _ => None,
        };
        if folder.is_none() && !needs(Need::Mounts) {
            return Ok(Preparation::default());
        }
        let own = std::env::current_exe()?;
        let mut again = if needs(Need::Mounts) {
            let mut unshare = Command::new("unshare");
            unshare.args(self.mounts).arg("--").arg(own);
            unshare
        } else {
            Command::new(own)
        };
        again.args(std::env::args_os().skip(1));
        again.env(PREPARED, folder.as_deref().unwrap_or(Path::new("")));
        if let Some(folder) = &folder {
            again.env(POSTGRES, folder);
        }
        // Comes back only if it fails.
        let error = again.exec();
        bail!("the harness does not start again: {error}")
    }
}

/// What was made for this process; removed when the value is dropped.
#[derive(Debug, Default)]
pub struct Preparation {
    folder: Option<PathBuf>,
}

impl Drop for Preparation {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // A few small files in the folder for temporary ones.
            let _ = fs::remove_dir_all(folder);
            clock::sweep();
        }
    }
}

fn can_mount(flags: &[&str]) -> bool {
    let script = r#"mount -t tmpfs tmpfs "$1""#;
    let Ok(folder) = tempfile::tempdir() else {
        return false;
    };
    let mounted = Command::new("unshare")
        .args(flags)
        .args(["--", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .output();
    mounted.is_ok_and(|output| output.status.success())
}

/// A folder with the programs of Postgres. Its server goes by the clock in the file `clock` beside its cluster's folder,
/// if there is one.
fn programs_with_clock(library: &Path) -> anyhow::Result<PathBuf> {
    let real = find_binaries()?;
    let folder = tempfile::Builder::new().prefix("tasklease-chaos-").tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let exports: String = clock::environment(library, "$clock")
        .iter()
        .map(|(name, value)| format!("    export {name}=\"{value}\"\n"))
        .collect();
    let server = format!(
        "#!/bin/sh\n# The second argument is the data in the cluster's folder.\nclock=${{2%/*/*}}/clock\n\
         if [ -f \"$clock\" ]; then\n{exports}fi\nexec '{}' \"$@\"\n",
        real.postgres().display()
    );
    write_program(&folder.path().join("postgres"), &server)?;
    for program in std::iter::once(real.initdb()).chain(copier(&real)) {
        let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display());
        let name = program.file_name().context("a program without a name")?;
        write_program(&folder.path().join(name), &text)?;
    }
    // The process that comes next removes it.
    Ok(folder.keep())
}

fn write_program(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Abilities, Need};
    use crate::fault_kind::FaultKind;

    #[test]
    fn a_kind_that_needs_what_is_missing_is_left_out_with_the_reason() {
        let abilities = Abilities {
            missing: BTreeMap::from([(Need::Mounts, "not here".to_owned())]),
            ..Abilities::default()
        };
        let (usable, left_out) = abilities.sort(&[FaultKind::FillDisk, FaultKind::KillWorker]);
        assert_eq!(usable, [FaultKind::KillWorker]);
        assert_eq!(left_out, [(FaultKind::FillDisk, "not here".to_owned())]);
    }
}
