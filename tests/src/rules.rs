//! The rules of the workspace, over what cargo and the file system say about it.
//!
//! Every rule returns one sentence for each place that breaks it; an empty list is a kept rule.

/// Our own crates that a package may depend on; a package that is not in here breaks a rule until it is.
///
/// Arrows point to `core`, backends never see each other, and `hybrid` sees no backend.
pub const ALLOWED: &[Row] = &[
    row("trunkline-core", &[], &["trunkline-macros", "trunkline-memory"]),
    row("trunkline-macros", &[], &["trunkline", "trunkline-core"]),
    row("trunkline-memory", CORE, TEST_CRATES),
    row("trunkline-redis", CORE, BROKER_TEST_CRATES),
    row("trunkline-kafka", CORE, BROKER_TEST_CRATES),
    row("trunkline-rabbitmq", CORE, BROKER_TEST_CRATES),
    row("trunkline-sql", CORE, TEST_CRATES),
    row("trunkline-hybrid", CORE, TEST_CRATES),
    row("trunkline-bus", CORE, TEST_CRATES),
    row("trunkline-launcher", &[], &[]),
    row(
        "trunkline-testing",
        &["trunkline-core", "trunkline-bus", "trunkline-launcher"],
        &["trunkline-macros", "trunkline-memory"],
    ),
    row("trunkline", BEHIND_THE_FACADE, &["trunkline-testing"]),
    row("trunkline-cli", &["trunkline"], &["trunkline-launcher"]),
    row("trunkline-tests", &[], EVERY_LIBRARY),
    row("xtask", &["trunkline-launcher"], &[]),
];

/// What an example may depend on: what a user's service would.
pub const ALLOWED_TO_EXAMPLES: &[&str] = &["trunkline"];

/// The drivers and the one package that may name each.
pub const DRIVERS: &[(&str, &str)] = &[
    ("sqlx", "trunkline-sql"),
    ("redis", "trunkline-redis"),
    ("rdkafka", "trunkline-kafka"),
    ("lapin", "trunkline-rabbitmq"),
];

/// The folders under `crates/` that hold a broker.
pub const BROKER_FOLDERS: &[&str] = &["memory", "redis", "kafka", "rabbitmq"];

/// The files that every broker has, from its folder on.
pub const BROKER_FILES: &[&str] = &[
    "src/lib.rs",
    "src/config.rs",
    "src/broker.rs",
    "src/publish.rs",
    "src/consume.rs",
    "src/codec.rs",
    "src/error.rs",
    "tests/conformance.rs",
];

/// The longest that a source file may be, in lines.
pub const MAX_LINES: usize = 400;

const CORE: &[&str] = &["trunkline-core"];
const TEST_CRATES: &[&str] =
    &["trunkline-testing", "trunkline-bus", "trunkline-memory", "trunkline-macros"];
/// The servers behind these are real.
const BROKER_TEST_CRATES: &[&str] = &[
    "trunkline-testing",
    "trunkline-launcher",
    "trunkline-bus",
    "trunkline-memory",
    "trunkline-macros",
];
const BEHIND_THE_FACADE: &[&str] = &[
    "trunkline-core",
    "trunkline-macros",
    "trunkline-bus",
    "trunkline-memory",
    "trunkline-redis",
    "trunkline-kafka",
    "trunkline-rabbitmq",
    "trunkline-hybrid",
    "trunkline-sql",
];
const EVERY_LIBRARY: &[&str] = &[
    "trunkline",
    "trunkline-core",
    "trunkline-macros",
    "trunkline-bus",
    "trunkline-memory",
    "trunkline-redis",
    "trunkline-kafka",
    "trunkline-rabbitmq",
    "trunkline-hybrid",
    "trunkline-sql",
    "trunkline-testing",
    "trunkline-launcher",
];

/// One line of [`ALLOWED`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    package: &'static str,
    normal: &'static [&'static str],
    /// Besides `normal`, in tests only.
    dev: &'static [&'static str],
}

const fn row(
    package: &'static str,
    normal: &'static [&'static str],
    dev: &'static [&'static str],
) -> Row {
    Row { package, normal, dev }
}

/// Whether a dependency reaches a package's users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A normal or build dependency.
    Shipped,
    /// A dependency of tests, examples and benches.
    Tests,
}

/// One dependency as a manifest names it.
#[derive(Clone, Debug)]
pub struct Arrow {
    /// The package that is depended on, by its own name and not by a new one that the manifest gives it.
    pub to: String,
    /// Whether it reaches users.
    pub reach: Reach,
}

/// What the rules need to know of one package.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder from the root of the workspace, with `/` between words: `crates/core`.
    pub folder: String,
    /// The first line that search results show of it.
    pub description: Option<String>,
    /// Whether its manifest takes the lints of the workspace.
    pub takes_workspace_lints: bool,
    /// Everything it depends on, ours and others'.
    pub arrows: Vec<Arrow>,
}

/// What the rules need to know of one source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path from the root of the workspace, with `/` between words.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Packages that [`ALLOWED`] does not know.
#[must_use]
pub fn unknown_packages(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| !is_example(package) && allowed(&package.name).is_none())
        .map(|package| {
            format!(
                "{} is not in the table of allowed dependencies: add a row for it to ALLOWED in tests/src/rules.rs",
                package.name
            )
        })
        .collect()
}

/// Dependencies between our crates of one reach that [`ALLOWED`] forbids.
#[must_use]
pub fn forbidden_arrows(packages: &[Package], reach: Reach) -> Vec<String> {
    let mut broken = Vec::new();
    for package in packages {
        let Some(allowed) = allowed_targets(package, reach) else {
            // `unknown_packages` tells of it.
            continue;
        };
        let ours = package.arrows.iter().filter(|arrow| {
            arrow.reach == reach && packages.iter().any(|other| other.name == arrow.to)
        });
        for arrow in ours.filter(|arrow| !allowed.contains(&arrow.to.as_str())) {
            let kind = match reach {
                Reach::Shipped => "depend",
                Reach::Tests => "depend in its tests",
            };
            broken.push(format!("{} may not {kind} on {}", package.name, arrow.to));
        }
    }
    broken
}

/// Drivers named by a package that is not their backend, in tests too.
#[must_use]
pub fn leaked_drivers(packages: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for package in packages {
        for arrow in &package.arrows {
            let owner = DRIVERS.iter().find(|(driver, _)| *driver == arrow.to);
            if let Some((driver, owner)) = owner.filter(|(_, owner)| *owner != package.name) {
                broken.push(format!(
                    "{} names the driver {driver}, which only {owner} may name",
                    package.name
                ));
            }
        }
    }
    broken
}

/// Packages under `crates/` and `tests` whose name does not follow from their folder.
#[must_use]
pub fn misnamed_packages(packages: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for package in packages {
        let expected = match package.folder.as_str() {
            "crates/trunkline" => "trunkline".to_owned(),
            "tests" => "trunkline-tests".to_owned(),
            folder => match folder.strip_prefix("crates/") {
                Some(name) => format!("trunkline-{name}"),
                None => continue,
            },
        };
        if package.name != expected {
            broken.push(format!(
                "the package in {} is named {} instead of {expected}",
                package.folder, package.name
            ));
        }
    }
    broken
}

/// Packages that choose their own lints.
#[must_use]
pub fn packages_with_own_lints(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| !package.takes_workspace_lints)
        .map(|package| format!("{}/Cargo.toml lacks `[lints] workspace = true`", package.folder))
        .collect()
}

/// Packages that do not say what they are.
#[must_use]
pub fn packages_without_description(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| package.description.as_deref().unwrap_or("").trim().is_empty())
        .map(|package| format!("{}/Cargo.toml lacks a description", package.folder))
        .collect()
}

/// Files of [`BROKER_FILES`] that a broker of this workspace lacks.
#[must_use]
pub fn missing_broker_files(packages: &[Package], sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for folder in BROKER_FOLDERS.iter().map(|name| format!("crates/{name}")) {
        if !packages.iter().any(|package| package.folder == folder) {
            continue;
        }
        // The memory broker hands the value on, so it has nothing to encode.
        let required = BROKER_FILES
            .iter()
            .filter(|file| folder != "crates/memory" || **file != "src/codec.rs");
        for path in required.map(|file| format!("{folder}/{file}")) {
            // A role may be a folder once its file has outgrown one page.
            let as_folder = path.replace(".rs", "/mod.rs");
            let there = |source: &Source| source.path == path || source.path == as_folder;
            if !sources.iter().any(there) {
                broken.push(format!("{path} is missing: every broker has the same files"));
            }
        }
    }
    broken
}

/// Source files with more than [`MAX_LINES`] lines.
#[must_use]
pub fn files_too_long(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(source, lines)| {
            format!(
                "{} has {lines} lines, more than {MAX_LINES}: it has two jobs, part them",
                source.path
            )
        })
        .collect()
}

/// Words that stand for work left undone, in any source file.
#[must_use]
pub fn words_of_undone_work(sources: &[Source]) -> Vec<String> {
    // In pieces, or this file would break its own rule.
    let words = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
    let mut broken = Vec::new();
    for source in sources {
        for (number, line) in std::iter::zip(1.., source.text.lines()) {
            let found = words.iter().filter(|word| line.contains(**word));
            broken.extend(found.map(|word| format!("{}:{number} contains `{word}`", source.path)));
        }
    }
    broken
}

fn is_example(package: &Package) -> bool {
    package.folder.starts_with("examples/")
}

fn allowed(package: &str) -> Option<&'static Row> {
    ALLOWED.iter().find(|row| row.package == package)
}

fn allowed_targets(package: &Package, reach: Reach) -> Option<Vec<&'static str>> {
    if is_example(package) {
        return Some(ALLOWED_TO_EXAMPLES.to_vec());
    }
    let row = allowed(&package.name)?;
    Some(match reach {
        Reach::Shipped => row.normal.to_vec(),
        Reach::Tests => [row.normal, row.dev].concat(),
    })
}
