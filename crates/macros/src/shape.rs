//! The fields of the type, as far as an event cares.

use syn::{
    Attribute, Data, DeriveInput, Fields, GenericArgument, Index, Member, PathArguments, Type,
    ext::IdentExt,
};

use crate::values::listed;

/// A field that a key or a stream may use.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    /// As written after `self.`.
    pub(crate) member: Member,
    /// Without `r#`.
    pub(crate) name: String,
    pub(crate) ty: &'a Type,
    pub(crate) attributes: &'a [Attribute],
}

/// What the derive was put on.
pub(crate) enum Shape<'a> {
    Struct(Vec<Field<'a>>),
    Enum,
}

impl<'a> Shape<'a> {
    /// The shape of a struct or an enum; a union has none.
    pub(crate) fn of(input: &'a DeriveInput) -> Option<Self> {
        match &input.data {
            Data::Struct(data) => Some(Self::Struct(fields(&data.fields))),
            Data::Enum(_) => Some(Self::Enum),
            Data::Union(_) => None,
        }
    }

    /// The field of this name; the error lists those there are.
    pub(crate) fn field(&self, name: &str) -> Result<&Field<'a>, String> {
        let Self::Struct(fields) = self else {
            return Err(format!(
                "an enum has no field `{name}` that all of its values share: write a name without \
                 placeholders, or leave it to topic and key"
            ));
        };
        fields.iter().find(|field| field.name == name).ok_or_else(|| {
            let known = listed(fields.iter().map(|field| &field.name), "and");
            match fields.len() {
                0 => format!("there is no field `{name}`: the struct has no fields"),
                1 => format!("there is no field `{name}`: the only field is {known}"),
                _ => format!("there is no field `{name}`: the fields are {known}"),
            }
        })
    }
}

fn fields(fields: &Fields) -> Vec<Field<'_>> {
    let named = |at: u32, field: &syn::Field| match &field.ident {
        Some(ident) => (Member::Named(ident.clone()), ident.unraw().to_string()),
        None => (
            Member::Unnamed(Index { index: at, span: proc_macro2::Span::call_site() }),
            at.to_string(),
        ),
    };
    (0u32..)
        .zip(fields)
        .map(|(at, field)| {
            let (member, name) = named(at, field);
            Field { member, name, ty: &field.ty, attributes: &field.attrs }
        })
        .collect()
}

/// Whether this is written as an `Option<…>`.
pub(crate) fn is_option(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|(name, arguments)| name == "Option" && arguments.len() == 1)
}

/// Whether this is written as `Bytes` or `Vec<u8>`.
pub(crate) fn is_bytes(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|(name, arguments)| match arguments[..] {
        [] => name == "Bytes",
        [argument] => name == "Vec" && last_segment(argument).is_some_and(|(of, _)| of == "u8"),
        _ => false,
    })
}

fn last_segment(ty: &Type) -> Option<(String, Vec<&Type>)> {
    let path = match ty {
        // A type that comes out of a `macro_rules!` macro is wrapped in an invisible group.
        Type::Group(group) => return last_segment(&group.elem),
        Type::Paren(paren) => return last_segment(&paren.elem),
        Type::Path(path) => &path.path,
        _ => return None,
    };
    let last = path.segments.last()?;
    let arguments = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect(),
        _ => Vec::new(),
    };
    let types = arguments.into_iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    Some((last.ident.to_string(), types.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(text: &str) -> Type {
        syn::parse_str(text).unwrap()
    }

    #[test]
    fn an_option_is_known_by_its_last_word() {
        for (text, expected) in [
            ("Option<u8>", true),
            ("(std::option::Option<String>)", true),
            ("Option", false),
            ("Vec<Option<u8>>", false),
            ("&'static str", false),
        ] {
            assert_eq!(is_option(&ty(text)), expected, "{text}");
        }
    }

    #[test]
    fn bytes_are_bytes_or_a_vector_of_them() {
        for (text, expected) in [
            ("Bytes", true),
            ("bytes::Bytes", true),
            ("Vec<u8>", true),
            ("std::vec::Vec<u8>", true),
            ("Vec<u16>", false),
            ("[u8; 4]", false),
            ("String", false),
        ] {
            assert_eq!(is_bytes(&ty(text)), expected, "{text}");
        }
    }
}
