//! Writes the implementation.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Index, Member, Path, Type, spanned::Spanned};

use crate::{
    checks::{Event, Key, Stream},
    values::Choice,
};

/// The `impl DomainEvent` of a checked event.
pub(crate) fn implementation(event: &Event<'_>) -> TokenStream {
    let Event { ident, krate, .. } = event;
    let (impl_generics, type_generics, where_clause) = event.generics.split_for_impl();
    let constants = constants(event);
    let key = event.key.as_ref().map(|key| key_method(krate, key));
    let stream = event.stream.as_ref().map(|stream| stream_method(krate, stream));
    let codec = event.raw.as_ref().map(|(member, ty)| raw_methods(krate, member, ty));
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::DomainEvent for #ident #type_generics #where_clause {
            #constants
            #key
            #stream
            #codec
        }
    }
}

/// Only what was said: the rest keeps the trait's own defaults.
fn constants(event: &Event<'_>) -> TokenStream {
    let Event { krate, event_type, topic, .. } = event;
    let version = event.version.map(|version| quote!(const VERSION: u32 = #version;));
    let source = event.source.as_ref().map(|source| {
        quote! {
            const SOURCE: ::core::option::Option<&'static str> =
                ::core::option::Option::Some(#source);
        }
    });
    let priority = choice(krate, "PRIORITY", "Priority", event.priority.as_ref());
    let kind = choice(krate, "KIND", "Kind", event.kind.as_ref());
    let codec = choice(krate, "CODEC", "Codec", event.codec.as_ref());
    quote! {
        const TYPE: &'static str = #event_type;
        const TOPIC: #krate::Topic = #krate::Topic::from_static(#topic);
        #version
        #priority
        #kind
        #source
        #codec
    }
}

fn choice(krate: &Path, constant: &str, ty: &str, chosen: Option<&Choice>) -> Option<TokenStream> {
    let chosen = chosen?;
    let constant = Ident::new(constant, Span::call_site());
    let ty = Ident::new(ty, Span::call_site());
    let variant = Ident::new(chosen.variant, chosen.span);
    Some(quote!(const #constant: #krate::#ty = #krate::#ty::#variant;))
}

fn key_method(krate: &Path, key: &Key) -> TokenStream {
    let body = match key {
        Key::Function(path) => {
            let into = quote_spanned!(place(path.span())=> ::core::convert::Into::into);
            quote!(::core::option::Option::map(#path(self), #into))
        }
        Key::Field { member, optional, span } => {
            field_key(krate, &located(member, *span), *optional, place(*span))
        }
    };
    quote! {
        fn key(&self) -> ::core::option::Option<#krate::__private::smol_str::SmolStr> {
            #body
        }
    }
}

/// With this span the compiler points at the field when its type has no `Display`.
fn field_key(krate: &Path, member: &Member, optional: bool, span: Span) -> TokenStream {
    let text_of = quote!(#krate::__private::text_of);
    if optional {
        quote_spanned! {span=>
            ::core::option::Option::map(
                ::core::option::Option::as_ref(&self.#member),
                |key| #text_of(key),
            )
        }
    } else {
        quote_spanned!(span=> ::core::option::Option::Some(#text_of(&self.#member)))
    }
}

fn stream_method(krate: &Path, stream: &Stream) -> TokenStream {
    let Stream { format, members, span } = stream;
    let members = members.iter().map(|member| {
        let member = located(member, *span);
        quote_spanned!(place(*span)=> self.#member)
    });
    quote! {
        fn stream(&self) -> ::core::option::Option<#krate::__private::smol_str::SmolStr> {
            ::core::option::Option::Some(
                #krate::__private::smol_str::format_smolstr!(#format #(, #members)*)
            )
        }
    }
}

/// Bytes pass through as they are; another codec, by configuration, treats the type like any other.
fn raw_methods(krate: &Path, member: &Member, ty: &Type) -> TokenStream {
    let bytes = quote!(#krate::__private::bytes::Bytes);
    let result = quote!(::core::result::Result);
    quote! {
        fn encode(&self, codec: #krate::Codec) -> #result<#bytes, #krate::Error> {
            match codec {
                #krate::Codec::Raw => {
                    let bytes = ::core::clone::Clone::clone(&self.#member);
                    #result::Ok(<#bytes as ::core::convert::From<#ty>>::from(bytes))
                }
                codec => codec.encode(self),
            }
        }

        fn decode(data: &#bytes, codec: #krate::Codec) -> #result<Self, #krate::Error> {
            match codec {
                #krate::Codec::Raw => {
                    let bytes = ::core::clone::Clone::clone(data);
                    let bytes = <#ty as ::core::convert::From<#bytes>>::from(bytes);
                    #result::Ok(Self { #member: bytes })
                }
                codec => codec.decode(data),
            }
        }
    }
}

/// A place for code that belongs to `span`: errors point there, and names such as `self` are the
/// derive's own.
fn place(span: Span) -> Span {
    Span::call_site().located_at(span)
}

fn located(member: &Member, span: Span) -> Member {
    match member {
        Member::Named(ident) => {
            let mut ident = ident.clone();
            ident.set_span(ident.span().located_at(span));
            Member::Named(ident)
        }
        Member::Unnamed(index) => Member::Unnamed(Index { index: index.index, span: place(span) }),
    }
}
