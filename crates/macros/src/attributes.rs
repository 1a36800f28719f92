//! Reads `#[event(…)]`: which keys there are, and their values one by one.

use proc_macro2::Span;
use syn::{
    Attribute, Expr, Ident, LitStr, Meta, Path, Result, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

use crate::{
    errors::Errors,
    values::{self, Choice, FieldName, listed},
};

const KEYS: [&str; 11] = [
    "type", "version", "topic", "key", "key_with", "stream", "priority", "kind", "source", "codec",
    "crate",
];

/// What the attributes of the type say; whatever was wrong is absent and noted.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) event_type: Option<LitStr>,
    pub(crate) version: Option<u32>,
    pub(crate) topic: Option<LitStr>,
    pub(crate) key: Option<FieldName>,
    pub(crate) key_with: Option<Path>,
    pub(crate) stream: Option<LitStr>,
    pub(crate) priority: Option<Choice>,
    pub(crate) kind: Option<Choice>,
    pub(crate) source: Option<LitStr>,
    pub(crate) codec: Option<Choice>,
    pub(crate) krate: Option<Path>,
}

impl Settings {
    /// Reads the `#[event(…)]` attributes of the type.
    pub(crate) fn read(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut settings = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for entry in entries(attributes, "topic = \"orders.placed\"", errors) {
            let name = entry.name();
            if !KEYS.contains(&name.as_str()) {
                errors.on(
                    &entry.key,
                    format!(
                        "there is no `{name}` in `#[event(…)]`: it takes {}",
                        listed(KEYS, "and")
                    ),
                );
            } else if seen.contains(&name) {
                errors.on(&entry.key, format!("`{name}` is given twice: keep one of them"));
            } else {
                errors.take(settings.set(&name, &entry));
                seen.push(name);
            }
        }
        settings
    }

    fn set(&mut self, name: &str, entry: &Entry) -> Result<()> {
        let value = entry.value()?;
        match name {
            "type" => self.event_type = Some(values::text(name, value, "order.placed")?),
            "version" => self.version = Some(values::version(value)?),
            "topic" => self.topic = Some(values::text(name, value, "orders.placed")?),
            "key" => self.key = Some(values::field(value)?),
            "key_with" => self.key_with = Some(values::path(name, value, "Self::routing_key")?),
            "stream" => self.stream = Some(values::text(name, value, "order-{order_id}")?),
            "priority" => self.priority = Some(values::choice(name, value, values::PRIORITIES)?),
            "kind" => self.kind = Some(values::choice(name, value, values::KINDS)?),
            "source" => self.source = Some(values::text(name, value, "/orders")?),
            "codec" => self.codec = Some(values::choice(name, value, values::CODECS)?),
            _ => self.krate = Some(values::path(name, value, "my_crate::trunkline")?),
        }
        Ok(())
    }
}

/// Where the attributes of a field make it the key.
pub(crate) fn key_mark(attributes: &[Attribute], errors: &mut Errors) -> Option<Span> {
    let mut mark = None;
    for entry in entries(attributes, "key", errors) {
        match (entry.name().as_str(), &entry.value) {
            ("key", Some(value)) => errors.on(value, "on a field, write `#[event(key)]` alone"),
            ("key", None) if mark.is_some() => {
                errors.on(&entry.key, "`key` is given twice: keep one of them");
            }
            ("key", None) => mark = Some(entry.key.span()),
            _ => errors.on(
                &entry.key,
                "a field takes `#[event(key)]` only: write everything else on the type",
            ),
        }
    }
    mark
}

/// Refuses `#[event(…)]` where it has no meaning.
pub(crate) fn refuse(attributes: &[Attribute], errors: &mut Errors) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("event")) {
        errors.on(
            attribute,
            "`#[event(…)]` belongs on the enum itself: for its key write \
             `#[event(key_with = Self::routing_key)]` there",
        );
    }
}

fn entries(attributes: &[Attribute], example: &str, errors: &mut Errors) -> Vec<Entry> {
    let mut all = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("event")) {
        let parsed = match &attribute.meta {
            Meta::List(list) => {
                list.parse_args_with(Punctuated::<Entry, Token![,]>::parse_terminated)
            }
            _ => Err(syn::Error::new_spanned(attribute, format!("write `#[event({example})]`"))),
        };
        all.extend(errors.take(parsed).into_iter().flatten());
    }
    all
}

/// One `key = value`, or a `key` alone.
struct Entry {
    key: Ident,
    value: Option<Expr>,
}

impl Entry {
    fn name(&self) -> String {
        self.key.unraw().to_string()
    }

    fn value(&self) -> Result<&Expr> {
        self.value.as_ref().ok_or_else(|| {
            let message = match self.name().as_str() {
                "key" => "on the type, name the field: write `key = order_id`; \
                          or put `#[event(key)]` on the field"
                    .to_owned(),
                name => format!("`{name}` needs a value: write `{name} = …`"),
            };
            syn::Error::new_spanned(&self.key, message)
        })
    }
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        // `type` and `crate` are keywords, so a plain identifier would not do.
        let key = Ident::parse_any(input)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Some(value_of(&key, input)?)
        } else {
            None
        };
        Ok(Self { key, value })
    }
}

fn value_of(key: &Ident, input: ParseStream<'_>) -> Result<Expr> {
    input.parse().map_err(|error| {
        syn::Error::new(error.span(), format!("`{key}` needs a value after its `=`: {error}"))
    })
}
