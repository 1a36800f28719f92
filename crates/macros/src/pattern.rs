//! Stream patterns: text with `{field}` placeholders.

/// A part of a stream's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text as it stands.
    Text(String),
    /// The text of a field.
    Field(String),
}

/// Reads a pattern; the error says what to write instead.
pub(crate) fn pieces(pattern: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix(brace) {
            text.push_str(brace);
            rest = escaped;
        } else if brace == "}" {
            return Err(
                "`}` closes nothing: write `}}` for a brace in the stream's name".to_owned()
            );
        } else {
            let (field, tail) = placeholder(after)?;
            push_text(&mut pieces, &mut text);
            pieces.push(Piece::Field(field.to_owned()));
            rest = tail;
        }
    }
    text.push_str(rest);
    push_text(&mut pieces, &mut text);
    Ok(pieces)
}

/// Splits off the name of a placeholder whose `{` has been read.
fn placeholder(after: &str) -> Result<(&str, &str), String> {
    let (name, tail) = after
        .split_once('}')
        .ok_or("`{` is never closed: write `{field}`, or `{{` for a brace in the stream's name")?;
    let name = name.strip_prefix("r#").unwrap_or(name);
    if name.is_empty() {
        return Err("a placeholder names a field: write `{order_id}`".to_owned());
    }
    let is_name = name.chars().all(|char| char.is_alphanumeric() || char == '_');
    if is_name {
        return Ok((name, tail));
    }
    let field: String =
        name.trim().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    let field = if field.is_empty() { "order_id" } else { &field };
    Err(format!("a placeholder is the name of a field and nothing else: write `{{{field}}}`"))
}

fn push_text(pieces: &mut Vec<Piece>, text: &mut String) {
    if !text.is_empty() {
        pieces.push(Piece::Text(std::mem::take(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn field(name: &str) -> Piece {
        Piece::Field(name.to_owned())
    }

    #[test]
    fn placeholders_stand_between_text() {
        assert_eq!(pieces("orders").unwrap(), [text("orders")]);
        assert_eq!(
            pieces("{tenant}/order-{id}").unwrap(),
            [field("tenant"), text("/order-"), field("id")]
        );
        assert_eq!(pieces("{r#type}{0}é").unwrap(), [field("type"), field("0"), text("é")]);
    }

    #[test]
    fn doubled_braces_are_text() {
        assert_eq!(pieces("{{{id}}}").unwrap(), [text("{"), field("id"), text("}")]);
        assert_eq!(pieces("{{id}}").unwrap(), [text("{id}")]);
    }

    #[test]
    fn a_bad_placeholder_is_told_what_to_write() {
        for (pattern, advice) in [
            ("order-{id", "`{` is never closed"),
            ("order-id}", "write `}}`"),
            ("order-{}", "write `{order_id}`"),
            ("order-{id:?}", "write `{id}`"),
            ("order-{self.id}", "write `{self}`"),
            ("{ id }", "write `{id}`"),
        ] {
            let error = pieces(pattern).unwrap_err();
            assert!(error.contains(advice), "{pattern}: {error}");
        }
    }
}
