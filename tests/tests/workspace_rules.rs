//! The shape of the workspace, as the design fixes it: who may depend on whom, and what every crate has.

#![expect(
    clippy::expect_used,
    reason = "a workspace that cannot be read fails every test here, and the text says what could not be read"
)]

use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};
use trunkline_tests::rules::{
    Arrow, Package, Reach, Source, files_too_long, forbidden_arrows, leaked_drivers,
    misnamed_packages, missing_broker_files, packages_with_own_lints, packages_without_description,
    unknown_packages, words_of_undone_work,
};

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the workspace").to_owned()
}

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .expect("cargo metadata reads the workspace");
    let packages: Vec<_> = metadata
        .packages
        .iter()
        .map(|package| {
            let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
            let folder = folder
                .strip_prefix(&metadata.workspace_root)
                .expect("a member lies in the workspace");
            Package {
                name: package.name.to_string(),
                folder: folder.as_str().replace('\\', "/"),
                description: package.description.clone(),
                takes_workspace_lints: takes_workspace_lints(package.manifest_path.as_std_path()),
                arrows: package.dependencies.iter().map(arrow).collect(),
            }
        })
        .collect();
    // A rule over nothing is kept by accident.
    assert!(packages.len() > 10, "cargo metadata found only {packages:?}");
    packages
}

fn arrow(dependency: &cargo_metadata::Dependency) -> Arrow {
    let reach = match dependency.kind {
        DependencyKind::Development => Reach::Tests,
        _ => Reach::Shipped,
    };
    Arrow { to: dependency.name.clone(), reach }
}

fn takes_workspace_lints(manifest: &Path) -> bool {
    let text = std::fs::read_to_string(manifest).expect("a manifest can be read");
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    let takes = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    takes.and_then(toml::Value::as_bool) == Some(true)
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    for folder in ["crates", "examples", "tests", "xtask"] {
        collect(&root, &root.join(folder), &mut sources);
    }
    assert!(!sources.is_empty(), "no source file in {}", root.display());
    sources
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("the file lies in the workspace");
            sources.push(Source {
                path: relative.to_string_lossy().replace('\\', "/"),
                text: std::fs::read_to_string(&path).expect("a source file is UTF-8"),
            });
        }
    }
}

fn assert_kept(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_package_has_a_row_in_the_table_of_allowed_dependencies() {
    assert_kept(&unknown_packages(&packages()));
}

#[test]
fn arrows_point_to_core_and_no_backend_sees_another() {
    assert_kept(&forbidden_arrows(&packages(), Reach::Shipped));
}

#[test]
fn tests_of_a_crate_use_only_the_crates_meant_for_tests() {
    assert_kept(&forbidden_arrows(&packages(), Reach::Tests));
}

#[test]
fn only_a_backend_names_its_driver() {
    assert_kept(&leaked_drivers(&packages()));
}

#[test]
fn every_package_is_named_after_its_folder() {
    assert_kept(&misnamed_packages(&packages()));
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    assert_kept(&packages_with_own_lints(&packages()));
}

#[test]
fn every_package_has_a_description() {
    assert_kept(&packages_without_description(&packages()));
}

#[test]
fn every_broker_has_the_same_files() {
    assert_kept(&missing_broker_files(&packages(), &sources()));
}

#[test]
fn no_source_file_has_two_jobs() {
    assert_kept(&files_too_long(&sources()));
}

#[test]
fn no_source_file_leaves_work_undone() {
    assert_kept(&words_of_undone_work(&sources()));
}

/// The rules catch what they are for; without these proofs they could be green for ever.
mod catches {
    use super::*;

    fn package(name: &str, folder: &str, arrows: &[(&str, Reach)]) -> Package {
        Package {
            name: name.to_owned(),
            folder: folder.to_owned(),
            description: Some("Something.".to_owned()),
            takes_workspace_lints: true,
            arrows: arrows
                .iter()
                .map(|(to, reach)| Arrow { to: (*to).to_owned(), reach: *reach })
                .collect(),
        }
    }

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_backend_that_depends_on_another_backend() {
        for reach in [Reach::Shipped, Reach::Tests] {
            let packages = [
                package("trunkline-kafka", "crates/kafka", &[("trunkline-redis", reach)]),
                package("trunkline-redis", "crates/redis", &[]),
            ];
            let broken = forbidden_arrows(&packages, reach);
            assert_eq!(broken.len(), 1);
            assert!(broken[0].starts_with("trunkline-kafka may not depend"), "{broken:?}");
        }
    }

    #[test]
    fn hybrid_shipping_a_backend_that_its_tests_may_use() {
        let memory = package("trunkline-memory", "crates/memory", &[]);
        let hybrid =
            |reach| package("trunkline-hybrid", "crates/hybrid", &[("trunkline-memory", reach)]);
        let shipped = [memory.clone(), hybrid(Reach::Shipped)];
        assert_eq!(forbidden_arrows(&shipped, Reach::Shipped).len(), 1);
        let tested = [memory, hybrid(Reach::Tests)];
        assert_eq!(forbidden_arrows(&tested, Reach::Shipped), [""; 0]);
        assert_eq!(forbidden_arrows(&tested, Reach::Tests), [""; 0]);
    }

    #[test]
    fn core_and_the_program_reaching_past_their_neighbours() {
        let packages = [
            package("trunkline-core", "crates/core", &[("trunkline-bus", Reach::Shipped)]),
            package("trunkline-bus", "crates/bus", &[]),
            package("trunkline-cli", "crates/cli", &[("trunkline-bus", Reach::Shipped)]),
            package("hello", "examples/01-hello", &[("trunkline-bus", Reach::Shipped)]),
        ];
        assert_eq!(
            forbidden_arrows(&packages, Reach::Shipped),
            [
                "trunkline-core may not depend on trunkline-bus",
                "trunkline-cli may not depend on trunkline-bus",
                "hello may not depend on trunkline-bus",
            ]
        );
    }

    #[test]
    fn a_new_crate_that_nobody_put_into_the_table() {
        let packages = [
            package("trunkline-gateway", "crates/gateway", &[]),
            package("trunkline-example-hello", "examples/01-hello", &[]),
        ];
        let broken = unknown_packages(&packages);
        assert_eq!(broken.len(), 1);
        assert!(broken[0].contains("trunkline-gateway is not in the table"), "{broken:?}");
        assert!(broken[0].contains("add a row"), "{broken:?}");
    }

    #[test]
    fn a_driver_outside_its_backend() {
        let packages = [
            package("trunkline-sql", "crates/sql", &[("sqlx", Reach::Shipped)]),
            package("trunkline-bus", "crates/bus", &[("sqlx", Reach::Tests)]),
            package("trunkline-memory", "crates/memory", &[("redis", Reach::Shipped)]),
        ];
        assert_eq!(
            leaked_drivers(&packages),
            [
                "trunkline-bus names the driver sqlx, which only trunkline-sql may name",
                "trunkline-memory names the driver redis, which only trunkline-redis may name",
            ]
        );
    }

    #[test]
    fn a_package_that_is_not_named_after_its_folder() {
        let packages = [
            package("trunkline", "crates/trunkline", &[]),
            package("trunkline-core", "crates/core", &[]),
            package("trunk-bus", "crates/bus", &[]),
            package("tests", "tests", &[]),
        ];
        assert_eq!(misnamed_packages(&packages).len(), 2);
    }

    #[test]
    fn a_manifest_without_lints_or_description() {
        let mut bare = package("trunkline-bus", "crates/bus", &[]);
        bare.takes_workspace_lints = false;
        bare.description = Some(" ".to_owned());
        let packages = [bare, package("trunkline-core", "crates/core", &[])];
        assert_eq!(packages_with_own_lints(&packages).len(), 1);
        assert_eq!(packages_without_description(&packages).len(), 1);
    }

    #[test]
    fn a_broker_that_lacks_a_file() {
        let packages = [
            package("trunkline-memory", "crates/memory", &[]),
            package("trunkline-redis", "crates/redis", &[]),
        ];
        let parts = ["lib", "config", "broker", "publish", "consume/mod", "error"];
        let mut sources = vec![source("crates/redis/tests/conformance.rs", "")];
        for folder in ["crates/memory", "crates/redis"] {
            sources.extend(parts.map(|part| source(&format!("{folder}/src/{part}.rs"), "")));
        }
        assert_eq!(
            missing_broker_files(&packages, &sources),
            [
                "crates/memory/tests/conformance.rs is missing: every broker has the same files",
                "crates/redis/src/codec.rs is missing: every broker has the same files",
            ]
        );
    }

    #[test]
    fn a_file_one_line_too_long() {
        let sources = [
            source("crates/core/src/fits.rs", &"//\n".repeat(400)),
            source("crates/core/src/long.rs", &"//\n".repeat(401)),
        ];
        let broken = files_too_long(&sources);
        assert_eq!(broken.len(), 1);
        assert!(broken[0].starts_with("crates/core/src/long.rs has 401 lines"), "{broken:?}");
    }

    #[test]
    fn a_word_of_undone_work() {
        let undone = format!("fn a() {{\n    {}) }}\n", concat!("to", "do!("));
        let left_out = format!("{} = \"slow\"]\n", concat!("#[ig", "nore"));
        let sources = [source("a.rs", &undone), source("b.rs", &left_out)];
        let broken = words_of_undone_work(&sources);
        assert_eq!(broken.len(), 2);
        assert!(broken[0].starts_with("a.rs:2 contains"), "{broken:?}");
    }
}
