//! `cargo xtask examples`: what each example prints, compared with what its reader was promised.

use std::path::{Path, PathBuf};

use trunkline_launcher::{Kind, Server};

use crate::workspace::{Failure, Workspace, shown};

const EXPECTED_OUTPUT: &str = "expected-output.txt";

/// Runs every example in the order of its number; all run, even after one failed.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for folder in folders(&workspace.path("examples"))? {
        let name = folder_name(&folder);
        match check(workspace, &folder) {
            Ok(()) => println!("example {name} ... ok"),
            Err(failure) => {
                println!("example {name} ... FAILED\n{failure}");
                failures.push(name);
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "examples failed: {}; the differences are above",
        failures.join(", ")
    )))
}

fn folders(examples: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| Failure::new(format!("cannot read {}: {error}", examples.display()));
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(examples).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    if let Some(odd) = folders.iter().find(|path| !is_numbered(&folder_name(path))) {
        return Err(Failure::new(format!(
            "{} is not named NN-name, so it has no place in the order of the examples; rename it",
            odd.display()
        )));
    }
    if folders.is_empty() {
        return Err(Failure::new(format!("there is no example in {}", examples.display())));
    }
    Ok(folders)
}

fn folder_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    name.to_string_lossy().into_owned()
}

fn is_numbered(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 3 && bytes[..2].iter().all(u8::is_ascii_digit) && bytes[2] == b'-'
}

fn check(workspace: &Workspace, folder: &Path) -> Result<(), Failure> {
    let promise = folder.join(EXPECTED_OUTPUT);
    let expected = std::fs::read(&promise).map_err(|error| {
        Failure::new(format!(
            "cannot read {}: {error}; write what the example prints into it",
            promise.display()
        ))
    })?;
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", manifest.display())))?;
    let package = package_name(&text)
        .ok_or_else(|| Failure::new(format!("{} names no package", manifest.display())))?;
    let server = server(&folder_name(folder))?;
    let mut command = workspace.cargo("run --quiet -p");
    command.arg(package).stderr(std::process::Stdio::inherit());
    if let Some(server) = &server {
        command.env("TRUNKLINE__BROKER__URL", server.url());
    }
    let output = command
        .output()
        .map_err(|error| Failure::new(format!("`{}` did not start: {error}", shown(&command))))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "`{}` ended with {}: its messages are above",
            shown(&command),
            output.status
        )));
    }
    match difference(&expected, &output.stdout) {
        None => Ok(()),
        Some(difference) => Err(Failure::new(format!(
            "{} (-) is not what `{}` prints (+):\n{difference}",
            promise.display(),
            shown(&command)
        ))),
    }
}

/// A server of its own for an example that is named after one.
fn server(name: &str) -> Result<Option<Server>, Failure> {
    let Some(kind) = server_kind(name) else { return Ok(None) };
    Server::start(kind).map(Some).map_err(|error| Failure::new(error.to_string()))
}

fn server_kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| name.get(3..) == Some(kind.name()))
}

fn package_name(manifest: &str) -> Option<&str> {
    let (_, package) = manifest.split_once("[package]")?;
    package.lines().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "name").then(|| value.trim().trim_matches('"'))
    })
}

/// The lines between the first and the last that differ; `None` when all bytes are the same.
fn difference(expected: &[u8], actual: &[u8]) -> Option<String> {
    if expected == actual {
        return None;
    }
    let expected = lines(expected);
    let actual = lines(actual);
    let same_before =
        std::iter::zip(&expected, &actual).take_while(|(left, right)| left == right).count();
    let (expected, actual) = (&expected[same_before..], &actual[same_before..]);
    let same_after = std::iter::zip(expected.iter().rev(), actual.iter().rev())
        .take_while(|(left, right)| left == right)
        .count();
    let mut text = format!("at line {}:\n", same_before + 1);
    for (sign, side) in [('-', expected), ('+', actual)] {
        for line in &side[..side.len() - same_after] {
            text.push(sign);
            text.push_str(&shown_line(line));
        }
    }
    Some(text)
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

fn shown_line(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    match text.strip_suffix('\n') {
        // A carriage return or a stray byte must be seen, or both sides would look alike.
        Some(line) => {
            format!("{}\n", line.escape_debug()).replace("\\\"", "\"").replace("\\'", "'")
        }
        None => format!("{} (no newline at the end)\n", text.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_no_difference() {
        assert_eq!(difference(b"a\nb\n", b"a\nb\n"), None);
    }

    #[test]
    fn shows_only_the_lines_that_differ() {
        let shown = difference(b"a\nb\nd\n", b"a\nc\nc\nd\n").unwrap();
        assert_eq!(shown, "at line 2:\n-b\n+c\n+c\n");
    }

    #[test]
    fn shows_a_missing_last_newline() {
        let shown = difference(b"a\n", b"a").unwrap();
        assert_eq!(shown, "at line 1:\n-a\n+a (no newline at the end)\n");
    }

    #[test]
    fn shows_a_carriage_return() {
        let shown = difference(b"a\n", b"a\r\n").unwrap();
        assert_eq!(shown, "at line 1:\n-a\n+a\\r\n");
    }

    #[test]
    fn finds_the_package_of_a_manifest() {
        let manifest = "[package]\nname = \"trunkline-example\"\nedition = \"2024\"\n\n[[bin]]\nname = \"other\"\n";
        assert_eq!(package_name(manifest), Some("trunkline-example"));
        assert_eq!(package_name("[[bin]]\nname = \"other\"\n"), None);
    }

    #[test]
    fn an_example_named_after_a_server_gets_one() {
        assert_eq!(server_kind("06-kafka"), Some(Kind::Kafka));
        assert_eq!(server_kind("01-hello-event"), None);
        assert_eq!(server_kind("kafka"), None);
    }

    #[test]
    fn an_example_is_named_by_two_digits_and_a_name() {
        assert!(is_numbered("01-hello-event"));
        assert!(!is_numbered("01-"));
        assert!(!is_numbered("hello"));
        assert!(!is_numbered("1-hello"));
    }
}
