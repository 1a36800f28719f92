//! Refuses borrowed parts: an event outlives the call that publishes it.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Data, DeriveInput, Type};

use crate::errors::Errors;

/// Notes every field that borrows from a lifetime parameter, with the type to write instead.
pub(crate) fn check(input: &DeriveInput, errors: &mut Errors) {
    let Some(lifetime) = input.generics.lifetimes().next() else { return };
    let types = field_types(&input.data);
    let mut borrowed = types.into_iter().filter(|ty| borrows(ty.to_token_stream())).peekable();
    if borrowed.peek().is_none() {
        errors.on(
            lifetime,
            format!("an event is owned: leave out the lifetime `{}`", lifetime.lifetime),
        );
    }
    for ty in borrowed {
        let instead = owned_type(ty);
        errors.on(ty, format!("an event is owned: replace `{}` by {instead}", written(ty)));
    }
}

fn field_types(data: &Data) -> Vec<&Type> {
    match data {
        Data::Struct(data) => data.fields.iter().map(|field| &field.ty).collect(),
        Data::Enum(data) => data
            .variants
            .iter()
            .flat_map(|variant| &variant.fields)
            .map(|field| &field.ty)
            .collect(),
        Data::Union(_) => Vec::new(),
    }
}

fn owned_type(ty: &Type) -> String {
    match ty {
        Type::Group(group) => owned_type(&group.elem),
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
            Type::Slice(slice) => format!("`Vec<{}>`", written(&slice.elem)),
            other => format!("`{}`", written(other)),
        },
        _ => "an owned type, such as `String`".to_owned(),
    }
}

/// The type as people write it.
fn written(ty: &Type) -> String {
    let spaced = ty.to_token_stream().to_string();
    [(" <", "<"), ("< ", "<"), (" >", ">"), ("& ", "&"), (" ,", ","), (" ::", "::"), (":: ", "::")]
        .iter()
        .fold(spaced, |text, (from, to)| text.replace(from, to))
}

fn borrows(tokens: TokenStream) -> bool {
    let mut after_tick = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => borrows(group.stream()),
        TokenTree::Ident(ident) => std::mem::take(&mut after_tick) && ident != "static",
        TokenTree::Punct(punct) => {
            after_tick = punct.as_char() == '\'';
            false
        }
        TokenTree::Literal(_) => false,
    })
}
