//! Lays the environment over the file.

use std::ffi::{OsStr, OsString};

use super::problem::{Location, Problems};
use super::tree::{Entry, Node, Table, Value, parse_value};

const PREFIX: &str = "trunkline__";
const SEPARATOR: &str = "__";
const FROM_FILE: &str = "_file";

/// Puts every `TRUNKLINE__SECTION__KEY` of `variables` into the tree.
///
/// In the order of their names, so that the outcome does not hang on the order of the environment.
pub(super) fn merge<K, V>(
    root: &mut Table,
    variables: impl IntoIterator<Item = (K, V)>,
    problems: &Problems,
) where
    K: Into<OsString>,
    V: Into<OsString>,
{
    let ours = variables.into_iter().filter_map(|(name, value)| ours(&name.into(), value.into()));
    let mut ours: Vec<_> = ours.collect();
    ours.sort();
    for (path, name, value) in ours {
        let at = Location::Variable { variable: name.into() };
        if let Err(message) = apply(root, &path, &value, &at) {
            let key = path.strip_suffix(FROM_FILE).unwrap_or(&path).replace(SEPARATOR, ".");
            problems.add(key, &at, message);
        }
    }
}

/// The path below the prefix in lower case, the name as it is, and the value.
fn ours(name: &OsStr, value: OsString) -> Option<(String, String, OsString)> {
    let name = name.to_string_lossy().into_owned();
    let path = name.to_lowercase().strip_prefix(PREFIX)?.to_owned();
    Some((path, name, value))
}

fn apply(root: &mut Table, path: &str, value: &OsStr, at: &Location) -> Result<(), String> {
    let Some(text) = value.to_str() else {
        return Err("the value is not UTF-8".to_owned());
    };
    let words: Vec<&str> = path.split(SEPARATOR).collect();
    if words.iter().any(|word| word.is_empty()) {
        return Err("two underscores stand between two words: `TRUNKLINE__BROKER__URL`".to_owned());
    }
    // `split` yields at least one word.
    let (last, parents) = words.split_last().unwrap_or((&path, &[]));
    match last.strip_suffix(FROM_FILE).filter(|key| !key.is_empty()) {
        Some(key) => set(root, parents, key, secret(text, at)?),
        None => set(root, parents, last, parse_value(text, at)),
    }
}

/// Reads a secret from a file; it is text whatever it looks like, as passwords of digits are.
fn secret(path: &str, at: &Location) -> Result<Node, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read `{path}`: {error}"))?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Node { value: Value::Text(text), at: at.clone() })
}

fn set(root: &mut Table, parents: &[&str], key: &str, node: Node) -> Result<(), String> {
    let mut table = root;
    for parent in parents {
        let entry = match position(table, parent) {
            Some(found) => &mut table.entries[found],
            None => push(table, parent, Value::Table(Table::default()), &node.at),
        };
        let shape = entry.node.value.shape();
        let Value::Table(inner) = &mut entry.node.value else {
            return Err(format!("`{parent}` is {shape} there, so nothing stands below it"));
        };
        table = inner;
    }
    let Some(found) = position(table, key) else {
        let at = node.at.clone();
        push(table, key, node.value, &at);
        return Ok(());
    };
    let entry = &mut table.entries[found];
    if let Location::Variable { variable } = &entry.node.at {
        return Err(format!("`{variable}` gives the same key: keep one of the two"));
    }
    entry.key_at = node.at.clone();
    entry.node = node;
    Ok(())
}

fn push<'t>(table: &'t mut Table, key: &str, value: Value, at: &Location) -> &'t mut Entry {
    let node = Node { value, at: at.clone() };
    let at = table.entries.len();
    table.entries.push(Entry { key: key.to_owned(), key_at: node.at.clone(), node });
    &mut table.entries[at]
}

/// Finds a key by its name in a variable, where case is lost and neither `-` nor `.` can stand.
fn position(table: &Table, word: &str) -> Option<usize> {
    let exact = table.entries.iter().position(|entry| entry.key == word);
    let spelled = |entry: &Entry| entry.key.to_lowercase().replace(['-', '.'], "_") == word;
    exact.or_else(|| table.entries.iter().position(spelled))
}
