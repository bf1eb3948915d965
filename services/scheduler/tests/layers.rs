//! Which module may use which: the rule of ARCHITECTURE.md, read from the `use` lines of the source.

#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A place in the tree of modules, and what its files may name beside itself.
struct Rule {
    module: &'static str,
    may_use: &'static [&'static str],
    because: &'static str,
}

/// What all rooms of the engine share; none of it knows a room.
const SHARED: [&str; 4] = [
    "engine::background",
    "engine::wake",
    "engine::health",
    "engine::Background",
];

/// The first rule that fits a file counts. Files that no rule names put everything together.
const RULES: [Rule; 8] = [
    Rule {
        module: "domain",
        may_use: &[],
        because: "decisions know no wire, no database, no clock",
    },
    Rule {
        module: "store",
        may_use: &["domain"],
        because: "the store turns rows into values of the domain, and decides nothing",
    },
    Rule {
        module: "engine::dispatch",
        may_use: &["domain", "store"],
        because: "who runs what next is memory: it commits nothing and tells nobody",
    },
    Rule {
        module: "engine::peers",
        may_use: &["domain", "store", "engine::dispatch"],
        because: "those who hear of a change do not make it",
    },
    Rule {
        module: "engine::writers",
        may_use: &["domain", "store", "engine::dispatch", "engine::peers"],
        because: "writes are asked for by jobs and calls, and know neither",
    },
    Rule {
        module: "engine::maintenance",
        may_use: &[
            "domain",
            "store",
            "engine::dispatch",
            "engine::peers",
            "engine::writers",
        ],
        because: "jobs and calls do not know each other",
    },
    Rule {
        module: "engine::calls",
        may_use: &[
            "domain",
            "store",
            "engine::dispatch",
            "engine::peers",
            "engine::writers",
        ],
        because: "jobs and calls do not know each other",
    },
    Rule {
        module: "api",
        may_use: &["domain", "store", "engine"],
        because: "reads go to the store, and everything else through the engine's calls",
    },
];

impl Rule {
    fn is_for(&self, module: &str) -> bool {
        is_within(module, self.module)
    }

    fn allows(&self, path: &str) -> bool {
        let own = std::iter::once(self.module);
        let shared = SHARED.into_iter().chain(["engine::Timing", "engine::Stored"]);
        let in_engine = self.module.starts_with("engine::");
        own.chain(self.may_use.iter().copied())
            .chain(shared.filter(|_| in_engine))
            .any(|allowed| is_within(path, allowed))
    }
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(files.len() > 50, "the source is in {}", source.display());
    let mut broken = Vec::new();
    for file in files {
        let module = module_of(file.strip_prefix(&source).unwrap());
        let Some(rule) = RULES.iter().find(|rule| rule.is_for(&module)) else {
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for path in used_paths(&module, &text) {
            if !rule.allows(&path) {
                broken.push(format!(
                    "{module} uses {path}, but {} may use only {:?}: {}",
                    rule.module, rule.may_use, rule.because
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The module of a file: `engine/calls/mod.rs` is `engine::calls`.
fn module_of(file: &Path) -> String {
    let parts: Vec<&str> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .filter(|part| part != "mod")
        .map(|part| &*part.leak())
        .collect();
    parts.join("::")
}

/// The paths inside the crate that the `use` lines of a module name, from the root of the crate.
fn used_paths(module: &str, text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    for statement in code.split(';') {
        let Some((_, tree)) = statement.rsplit_once("use ") else {
            continue;
        };
        let tree: String = tree.chars().filter(|c| !c.is_whitespace()).collect();
        for path in expand(&tree) {
            paths.extend(from_root(module, &path));
        }
    }
    paths
}

/// The paths of a tree such as `a::{b,c::{d,e}}`.
fn expand(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, character) in inside.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[begin..]);
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .flat_map(expand)
        .map(|path| format!("{head}{path}"))
        .collect()
}

/// A path as it is called from the root of the crate; `None` if it leads to another crate.
fn from_root(module: &str, path: &str) -> Option<String> {
    if let Some(path) = path.strip_prefix("crate::") {
        return Some(path.to_owned());
    }
    let mut base: Vec<&str> = module.split("::").collect();
    let mut rest = path.strip_prefix("self::").unwrap_or(path);
    let is_relative = rest.len() < path.len() || rest.starts_with("super::");
    while let Some(above) = rest.strip_prefix("super::") {
        base.pop();
        rest = above;
    }
    if !is_relative {
        return None;
    }
    base.push(rest);
    Some(base.join("::"))
}

#[test]
fn use_lines_are_read_as_the_compiler_reads_them() {
    let text = "use crate::{domain::ids::TaskId, store::{Database, Mark}};\nuse super::{wake::Wake, self};\nuse std::fmt;";
    assert_eq!(
        used_paths("engine::calls::submit", text),
        [
            "domain::ids::TaskId",
            "store::Database",
            "store::Mark",
            "engine::calls::wake::Wake",
            "engine::calls::self"
        ]
    );
}
