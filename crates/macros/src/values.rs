//! The values of `#[event(key = value)]`, each with the error that says how to write it.

use proc_macro2::Span;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Path, Result, ext::IdentExt};

/// Words that a key accepts, each with the variant it stands for.
pub(crate) type Choices = [(&'static str, &'static str)];

pub(crate) const PRIORITIES: &Choices =
    &[("low", "Low"), ("normal", "Normal"), ("high", "High"), ("critical", "Critical")];
pub(crate) const KINDS: &Choices = &[
    ("command", "Command"),
    ("domain", "Domain"),
    ("integration", "Integration"),
    ("notification", "Notification"),
];
pub(crate) const CODECS: &Choices = &[("json", "Json"), ("msgpack", "MessagePack"), ("raw", "Raw")];

/// A value that was chosen from a closed list.
pub(crate) struct Choice {
    /// The word as the user writes it.
    pub(crate) word: &'static str,
    /// The variant it stands for.
    pub(crate) variant: &'static str,
    /// Where it was written.
    pub(crate) span: Span,
}

/// Which field the user named, and where.
pub(crate) struct FieldName {
    pub(crate) name: String,
    pub(crate) span: Span,
}

/// A string literal that is not empty.
pub(crate) fn text(key: &str, value: &Expr, example: &str) -> Result<LitStr> {
    let Some(Lit::Str(literal)) = literal(value) else {
        return Err(Error::new_spanned(
            value,
            format!("`{key}` takes a string literal: write `{key} = \"{example}\"`"),
        ));
    };
    if literal.value().trim().is_empty() {
        return Err(Error::new_spanned(
            literal,
            format!("`{key}` is empty: write `{key} = \"{example}\"`, or leave it out"),
        ));
    }
    if literal.value().contains(char::is_control) {
        return Err(Error::new_spanned(
            literal,
            format!("`{key}` holds a control character: write `{key} = \"{example}\"`"),
        ));
    }
    Ok(literal.clone())
}

/// A payload version.
pub(crate) fn version(value: &Expr) -> Result<u32> {
    let number = match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse::<u32>().ok(),
        _ => None,
    };
    number.filter(|version| *version >= 1).ok_or_else(|| {
        Error::new_spanned(
            value,
            format!("`version` takes a whole number from 1 to {}: write `version = 2`", u32::MAX),
        )
    })
}

/// One word of a closed list, with or without quotes.
pub(crate) fn choice(key: &str, value: &Expr, choices: &'static Choices) -> Result<Choice> {
    let (written, span) = match (literal(value), ident(value)) {
        (Some(Lit::Str(literal)), _) => (Some(literal.value()), literal.span()),
        (_, Some(ident)) => (Some(ident.unraw().to_string()), ident.span()),
        _ => (None, Span::call_site()),
    };
    let found = choices.iter().find(|(word, _)| written.as_deref() == Some(word));
    let Some(&(word, variant)) = found else {
        let words = listed(choices.iter().map(|(word, _)| *word), "or");
        let message = match written {
            Some(other) => format!("there is no {key} `{other}`: write {words}"),
            None => format!("`{key}` takes one word: write {words}"),
        };
        return Err(Error::new_spanned(value, message));
    };
    Ok(Choice { word, variant, span })
}

/// The name or the number of a field.
pub(crate) fn field(value: &Expr) -> Result<FieldName> {
    if let Some(ident) = ident(value) {
        return Ok(FieldName { name: ident.unraw().to_string(), span: ident.span() });
    }
    if let Some(Lit::Int(index)) = literal(value) {
        return Ok(FieldName { name: index.base10_digits().to_owned(), span: index.span() });
    }
    let message = match literal(value) {
        Some(Lit::Str(name)) if syn::parse_str::<Ident>(&name.value()).is_ok() => {
            format!("`key` takes a field, not a string: write `key = {}`", name.value())
        }
        _ => "`key` takes the name of a field: write `key = order_id`, \
              or compute the key with `key_with = path::to::function`"
            .to_owned(),
    };
    Err(Error::new_spanned(value, message))
}

/// The path of a function or of a crate.
pub(crate) fn path(key: &str, value: &Expr, example: &str) -> Result<Path> {
    match value {
        Expr::Group(group) => path(key, &group.expr, example),
        Expr::Path(path) if path.qself.is_none() => Ok(path.path.clone()),
        _ => Err(Error::new_spanned(
            value,
            format!("`{key}` takes a path without quotes: write `{key} = {example}`"),
        )),
    }
}

/// "`a`, `b` and `c`".
pub(crate) fn listed<T: std::fmt::Display>(
    words: impl IntoIterator<Item = T>,
    last: &str,
) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match (words.pop(), words.is_empty()) {
        (None, _) => String::new(),
        (Some(only), true) => only,
        (Some(end), false) => format!("{} {last} {end}", words.join(", ")),
    }
}

// A literal or a name that comes out of a `macro_rules!` macro is wrapped in an invisible group.
fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Group(group) => literal(&group.expr),
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn ident(value: &Expr) -> Option<&Ident> {
    match value {
        Expr::Group(group) => ident(&group.expr),
        Expr::Path(path) if path.qself.is_none() => path.path.get_ident(),
        _ => None,
    }
}
