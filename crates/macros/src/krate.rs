//! Which path the generated code uses for trunkline's items.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::Span;
use syn::{Error, Ident, Path, Result, parse_quote};

/// The facade first: who depends on it need not know `trunkline-core`.
const PACKAGES: [(&str, &str); 2] =
    [("trunkline", "trunkline"), ("trunkline-core", "trunkline_core")];

/// The path of the crate that the package under compilation depends on.
pub(crate) fn found() -> Result<Path> {
    for (package, library) in PACKAGES {
        let name = match crate_name(package) {
            // The crate's own tests, examples and documentation see it under its name, too; its
            // library says `extern crate self as …`.
            Ok(FoundCrate::Itself) => library.to_owned(),
            Ok(FoundCrate::Name(name)) => name,
            Err(_not_a_dependency) => continue,
        };
        let name = Ident::new(&name, Span::call_site());
        return Ok(parse_quote!(::#name));
    }
    Err(Error::new(
        Span::call_site(),
        "this package does not depend on `trunkline`: add it to Cargo.toml, \
         or say where it is re-exported with `#[event(crate = my_crate::trunkline)]`",
    ))
}
