//! Holds the attribute against the type. What comes out can be written down without further
//! questions.

use proc_macro2::Span;
use syn::{
    Data, DeriveInput, Generics, Ident, LitStr, Member, Path, Type, ext::IdentExt, parse_quote,
    spanned::Spanned,
};

use crate::{
    attributes::{self, Settings},
    errors::Errors,
    krate,
    names::{kebab_case, topic_mistake},
    owned,
    pattern::{Piece, pieces},
    shape::{Field, Shape, is_bytes, is_option},
    values::{Choice, FieldName},
};

/// An event that holds together.
pub(crate) struct Event<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) krate: Path,
    pub(crate) event_type: String,
    pub(crate) topic: String,
    pub(crate) version: Option<u32>,
    pub(crate) priority: Option<Choice>,
    pub(crate) kind: Option<Choice>,
    pub(crate) source: Option<LitStr>,
    pub(crate) codec: Option<Choice>,
    pub(crate) key: Option<Key>,
    pub(crate) stream: Option<Stream>,
    /// The only field of an event of raw bytes, and its type.
    pub(crate) raw: Option<(Member, &'a Type)>,
}

/// Where the ordering key comes from.
pub(crate) enum Key {
    Field { member: Member, optional: bool, span: Span },
    Function(Path),
}

/// The name of the stream: a format string and what it is filled with.
pub(crate) struct Stream {
    pub(crate) format: String,
    pub(crate) members: Vec<Member>,
    pub(crate) span: Span,
}

/// Checks everything; the error holds all that is wrong.
pub(crate) fn checked(input: &DeriveInput) -> syn::Result<Event<'_>> {
    let Some(shape) = Shape::of(input) else {
        return Err(syn::Error::new(
            input.ident.span(),
            "a union cannot be an event: write a struct, or an enum",
        ));
    };
    let mut errors = Errors::default();
    let mut settings = Settings::read(&input.attrs, &mut errors);
    owned::check(input, &mut errors);
    let krate = settings.krate.take().map_or_else(krate::found, Ok);
    let event = Event {
        ident: &input.ident,
        generics: &input.generics,
        // Without a path the error is noted, and `finish` gives nothing out.
        krate: errors.take(krate).unwrap_or_else(|| parse_quote!(trunkline)),
        event_type: event_type(input, &settings),
        topic: topic(input, &settings, &mut errors),
        key: key(input, &shape, &mut settings, &mut errors),
        stream: stream(&shape, &settings, &mut errors),
        raw: raw(&shape, &settings, &mut errors),
        version: settings.version,
        priority: settings.priority,
        kind: settings.kind,
        source: settings.source,
        codec: settings.codec,
    };
    errors.finish(event)
}

fn event_type(input: &DeriveInput, settings: &Settings) -> String {
    let name = || input.ident.unraw().to_string();
    settings.event_type.as_ref().map_or_else(name, LitStr::value)
}

fn topic(input: &DeriveInput, settings: &Settings, errors: &mut Errors) -> String {
    let Some(literal) = &settings.topic else {
        let name = input.ident.unraw().to_string();
        let topic = kebab_case(&name);
        if topic_mistake(&topic).is_some() {
            errors.on(
                &input.ident,
                format!(
                    "no topic can be made of `{name}`: write `#[event(topic = \"orders.placed\")]`"
                ),
            );
        }
        return topic;
    };
    if let Some(mistake) = topic_mistake(&literal.value()) {
        errors.on(literal, mistake);
    }
    literal.value()
}

fn key(
    input: &DeriveInput,
    shape: &Shape<'_>,
    settings: &mut Settings,
    errors: &mut Errors,
) -> Option<Key> {
    let marked = marked_fields(input, shape, errors);
    let named = settings.key.take();
    let function = settings.key_with.take();
    let given = marked.len() + usize::from(named.is_some()) + usize::from(function.is_some());
    if given > 1 {
        let place = marked.last().map_or_else(
            || named.as_ref().map_or_else(Span::call_site, |named| named.span),
            |(_, mark)| *mark,
        );
        errors.at(
            place,
            "an event has one key: keep one of `#[event(key)]` on a field, `key = field` \
             and `key_with = path`",
        );
        return None;
    }
    if let Some(path) = function {
        return Some(Key::Function(path));
    }
    match (marked.into_iter().next(), named) {
        (Some((field, _)), _) => Some(field_key(&field, field.ty.span())),
        (None, Some(named)) => named_key(shape, &named, errors),
        (None, None) => None,
    }
}

fn named_key(shape: &Shape<'_>, named: &FieldName, errors: &mut Errors) -> Option<Key> {
    if let Shape::Enum = shape {
        errors.at(
            named.span,
            "an enum has no field that all of its values share: \
             write `key_with = Self::routing_key`, the path of a `fn(&Self) -> Option<String>`",
        );
        return None;
    }
    match shape.field(&named.name) {
        Ok(field) => Some(field_key(field, named.span)),
        Err(mistake) => {
            errors.at(named.span, mistake);
            None
        }
    }
}

fn field_key(field: &Field<'_>, span: Span) -> Key {
    Key::Field { member: field.member.clone(), optional: is_option(field.ty), span }
}

/// The fields that are marked as the key, and where; an attribute inside an enum is a mistake.
fn marked_fields<'a>(
    input: &'a DeriveInput,
    shape: &Shape<'a>,
    errors: &mut Errors,
) -> Vec<(Field<'a>, Span)> {
    if let Data::Enum(data) = &input.data {
        for variant in &data.variants {
            attributes::refuse(&variant.attrs, errors);
            variant.fields.iter().for_each(|field| attributes::refuse(&field.attrs, errors));
        }
    }
    match shape {
        Shape::Enum => Vec::new(),
        Shape::Struct(fields) => fields
            .iter()
            .filter_map(|field| {
                attributes::key_mark(field.attributes, errors).map(|mark| (field.clone(), mark))
            })
            .collect(),
    }
}

fn stream(shape: &Shape<'_>, settings: &Settings, errors: &mut Errors) -> Option<Stream> {
    let literal = settings.stream.as_ref()?;
    let pieces =
        pieces(&literal.value()).map_err(|mistake| syn::Error::new_spanned(literal, mistake));
    let mut stream = Stream { format: String::new(), members: Vec::new(), span: literal.span() };
    for piece in errors.take(pieces)? {
        match piece {
            Piece::Text(text) => stream.format += &text.replace('{', "{{").replace('}', "}}"),
            Piece::Field(name) => {
                stream.format += "{}";
                stream.members.extend(stream_member(shape, &name, literal, errors));
            }
        }
    }
    Some(stream)
}

fn stream_member(
    shape: &Shape<'_>,
    name: &str,
    literal: &LitStr,
    errors: &mut Errors,
) -> Option<Member> {
    match shape.field(name) {
        Ok(field) if is_option(field.ty) => errors.on(
            literal,
            format!(
                "`{name}` is optional, and a stream's name needs all of its parts: \
                 use another field"
            ),
        ),
        Ok(field) => return Some(field.member.clone()),
        Err(mistake) => errors.on(literal, mistake),
    }
    None
}

fn raw<'a>(
    shape: &Shape<'a>,
    settings: &Settings,
    errors: &mut Errors,
) -> Option<(Member, &'a Type)> {
    let codec = settings.codec.as_ref().filter(|codec| codec.word == "raw")?;
    if let Shape::Struct(fields) = shape
        && let [field] = &fields[..]
        && is_bytes(field.ty)
    {
        return Some((field.member.clone(), field.ty));
    }
    errors.at(
        codec.span,
        "raw bytes come from a struct with one field, a `Bytes` or a `Vec<u8>`, such as \
         `struct Snapshot(Bytes);`: write that, or choose `json` or `msgpack`",
    );
    None
}
